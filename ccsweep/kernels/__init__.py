"""Loops that leave work out, compiled by numba for the CPU that runs them.

What a CPU does not have runs as plain loops, or as more steps, with the same results up to rounding; sums of
bytes are exact everywhere:

====================  ==================  ==================  =================  ====================
                      Sapphire Rapids on  AVX-512             x86-64 with FMA    ARM, any other
====================  ==================  ==================  =================  ====================
fused multiply-add    vectors             vectors             vectors            vectors where it has
                                                                                 one, else plain
compressing lists     vectors             vectors             plain              plain
products of bytes     VNNI, tiles         VNNI where it has   VNNI where it has  widened
                      (AMX) if dense      it, else widened    it, else widened
====================  ==================  ==================  =================  ====================

LLVM compresses 16 (index, value) pairs in 7 instructions on AVX-512, and in 100 or more elsewhere.
"""
