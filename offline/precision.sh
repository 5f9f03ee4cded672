# Of matrix products while training: bfloat16 where the processor has it, as elsewhere it is emulated.
precision=float32
if grep -qsE 'amx_bf16|avx512_bf16' /proc/cpuinfo; then precision=bfloat16; fi
