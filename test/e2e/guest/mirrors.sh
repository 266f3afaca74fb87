# mirrors SUITE: the lines of a sources.list with the mirrors that this machine
# already uses, whatever they are.
mirrors() {
  local uris main security key="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
  uris=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | sort -u)
  main=$(grep -v security <<< "$uris" | head -1)
  security=$(grep security <<< "$uris" | head -1)
  [ -n "$main" ] || { echo "no Debian mirror is known here: run apt-get update first" >&2; exit 1; }
  echo "deb $key ${main%/} $1 main"
  echo "deb $key ${main%/} $1-updates main"
  if [ -n "$security" ]; then echo "deb $key ${security%/} $1-security main"; fi
}
