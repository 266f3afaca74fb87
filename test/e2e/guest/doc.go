// Package guest gives tests a real Linux NVMe/TCP host: a Debian kernel with
// nvme-cli, parted, jq, fio, ext4 and XFS in a QEMU machine emulated in
// software, driven over the QEMU guest agent.
//
// The image is assembled from Debian packages by build.sh, with nothing
// installed on the machine and no maintainer script run; init is the guest's
// first process. A guest keeps nothing: its disk is its memory.
package guest
