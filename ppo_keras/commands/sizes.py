"""The sizes that `ppo-keras bench scaling` times, without TensorFlow, so that --help can name them."""

USUAL = dict(batch=64, response=48, width=128, layers=4, vocabulary=512)  # what the sizes are that do not grow, as in `bench text`
SIZES = {
    "batch": (32, 64, 128, 256),
    "response": (24, 48, 96, 192),
    "width": (64, 128, 256, 512),
    "layers": (1, 2, 4, 8),
    "vocabulary": (512, 2048, 8192, 32768),
    "environments": (16, 64, 256, 1024),
}
