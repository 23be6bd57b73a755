"""Solutions of 5.5, compiled loops."""


def number_of_traces():
    return 3  # the Python numbers 1 and 2 one each; all int32 scalars together one


def second_call():
    return 2.0 * 3.0  # scale was read while tracing


def in_bfloat16():
    return 1.0  # the next number above 1 is 1 + 2^-7 = 1.0078; 1.003 lies nearer to 1
