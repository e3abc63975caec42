"""What the tools run, if it is there."""
import argparse
import os
import shutil


def program(path):
    """For argparse: a program that can be run. Its default goes through this, too."""
    found = shutil.which(path) if os.sep not in str(path) else path
    if found and os.access(found, os.X_OK) and not os.path.isdir(found):
        return str(path)
    raise argparse.ArgumentTypeError(f"{path} is no program: make it by tools/release, or name another one with --trivisor")
