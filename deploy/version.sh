# Which version this is; scripts here that build something to give away read this file.
#
# SECONDS_OF_COMMIT is the time of the commit, so that the same commit makes the same files.

seconds_of_commit=$(git log -1 --format=%ct)
# A version that sorts: the tag, or the time of the commit before the first one.
version=$(git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-/+/') || version=""
[ -n "$version" ] || version=0.0.$seconds_of_commit
