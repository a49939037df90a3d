"""What is wrong with this installation, in words, and how to fix it: every look is harmless and changes nothing."""

from bitloot.ops.doctor.finding import Finding, Level, examine
from bitloot.ops.doctor.looks import LOOKS

__all__ = ["LOOKS", "Finding", "Level", "examine"]
