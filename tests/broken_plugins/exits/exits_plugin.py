import sys

sys.exit("no graphics card")
