/* The stub's program as bytes. */
    .section .rodata
    .globl nacre_direct_stub_image
    .globl nacre_direct_stub_image_end
    .balign 16
nacre_direct_stub_image:
    .incbin NACRE_STUB_FILE
nacre_direct_stub_image_end:
    .section .note.GNU-stack, "", @progbits
