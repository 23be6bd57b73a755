"""`python -m ppo_keras` is `ppo-keras`."""

import sys


def run():
    """The command line. Returns its exit code, also where Ctrl-C comes before its own imports have ended."""
    try:
        from ppo_keras.commands.main import main

        return main()
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(run())
