# First process of a namespace host ($1 is its name): makes its root an
# overlay of the machine's, changes kept in memory, says so on descriptor 3
# and waits to be killed.
set -eu
hostname "$1"
mount --make-rprivate /
ip link set lo up
layer=$(mktemp -d)
mount -t tmpfs tmpfs "$layer"
mkdir "$layer/upper" "$layer/work" "$layer/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$layer/upper,workdir=$layer/work" "$layer/root"
root=$layer/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t sysfs sysfs "$root/sys"
for dir in tmp run; do
  mount -t tmpfs tmpfs "$root/$dir"
  chmod 1777 "$root/$dir"
done
mount -t tmpfs tmpfs "$root/root"
# Not ready before the root is the overlay: what is run here before that would
# change the machine itself. A shell, as the first process has to reap every orphan.
exec chroot "$root" /bin/bash -c "echo ready >&3; exec 3>&-; sleep infinity & wait"
