/* The agent's program as bytes in the nacre command. */
    .section .rodata
    .globl nacre_guest_agent_image
    .globl nacre_guest_agent_image_end
    .balign 16
nacre_guest_agent_image:
    .incbin NACRE_AGENT_FILE
nacre_guest_agent_image_end:
    .section .note.GNU-stack, "", @progbits
