# Sourced by the tests that run Nacre's kvm engine in a guest of an emulator.
# shellcheck shell=bash disable=SC2154  # $cache and $guests are common.sh's

# outer_guest NACRE MKINITRAMFS KVM_TEST MODULE KERNEL…: makes $work, which goes at the end, and in it outer.cpio: Nacre, its unit
# tests of KVM, KVM with its MODULE, Debian's kernel, test.cpio, the small KERNELs, the scripts etc/nested*, and what mkinitramfs is told by $more.
more=()
outer_guest() {
  local nacre=$1 mkinitramfs=$2 unit_tests=$3 module=$4 etc=${BASH_SOURCE[0]%/*}/../etc script kernel library
  shift 4
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cp "$nacre" "$work/nacre" && cp "$unit_tests" "$work/kvm_test" && strip "$work/nacre" "$work/kvm_test" || fail 'nacre cannot be copied.'
  local files=(--file /usr/bin/nacre="$work/nacre" --file /nested/kvm_test="$work/kvm_test" --file /nested/vmlinuz="$cache/vmlinuz-cloud" --file /nested/test.cpio="$guests/test.cpio"
    --file /nested/virtio.cpio="$guests/virtio.cpio" "${more[@]}")
  for script in "$etc"/nested*; do files+=(--file "/etc/nacre/${script##*/}=$script"); done
  for kernel; do files+=(--file "/nested/$kernel.elf=$guests/kernels/$kernel.elf"); done
  for module in irqbypass kvm "$module"; do files+=(--file "/lib/modules/nested/$module.ko=$cache/modules-cloud/$module.ko"); done
  # The shared libraries, as the loader finds them here.
  while read -r library; do files+=(--file "$library=$library"); done < <({ ldd "$nacre"; ldd "$unit_tests"; } | grep -o '/[^ ]*' | sort -u)
  "$mkinitramfs" "$work/outer.cpio" --busybox "$cache/busybox" --applets "$cache/busybox.applets" "${files[@]}" || fail 'the outer guest cannot be made.'
}
