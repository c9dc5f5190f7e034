# What scripts here have in common that download from Debian; they read this file.

# debian_mirrors are where to download from: the mirror that apt uses for Debian,
# then the public one.
debian_mirrors() {
	if command -v apt-get >/dev/null 2>&1; then
		apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | grep -E '^(https?|file):' | head -n 1
	fi
	echo http://deb.debian.org/debian
}

# use_apt_proxy lets debootstrap download the way apt does.
use_apt_proxy() {
	if command -v apt-config >/dev/null 2>&1 && [ -z "${http_proxy:-}" ]; then
		eval "$(apt-config shell http_proxy Acquire::http::Proxy)"
		[ -z "${http_proxy:-}" ] || export http_proxy
	fi
}
