/* Files as bytes in the nacre command: NAME_image to NAME_image_end. */
    .macro carry name, file
    .globl \name\()_image
    .globl \name\()_image_end
    .balign 16
\name\()_image:
    .incbin "\file"
\name\()_image_end:
    .endm

    .section .rodata
    carry nacre_agent, NACRE_AGENT_FILE
    carry nacre_disk_init, NACRE_DISK_INIT_FILE
    carry nacre_debian_script, NACRE_DEBIAN_IMAGE_FILE
    .section .note.GNU-stack, "", @progbits
