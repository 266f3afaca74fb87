#!/bin/sh
# The user of all daemons. Files of other packages belong to its group, so it has to
# be there before they are unpacked.
set -e
getent group vda >/dev/null || groupadd --system vda
getent passwd vda >/dev/null ||
  useradd --system --gid vda --home-dir /var/lib/vda --no-create-home --shell /usr/sbin/nologin --comment VDA vda
install -d -o vda -g vda -m 0750 /var/lib/vda
