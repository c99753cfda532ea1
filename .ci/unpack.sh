# Sourced by the other scripts: packages of Debian for another architecture or release, unpacked into a folder of their own. Nothing
# of this system's own list of packages is touched.

# unpack ROOT ARCHITECTURE SUITE PACKAGE...: does nothing when ROOT is complete already
unpack() {
    local root=$1 architecture=$2 suite=$3 apt=$1.apt
    shift 3
    [ ! -e "$root/complete" ] || return 0
    rm -rf "$root" "$apt"
    mkdir -p "$root"/usr/{bin,lib,lib64,sbin} "$apt"/{lists/partial,cache/archives/partial,sources}
    : > "$apt/status"
    # Where this system has its packages from; the main suite is enough.
    if [ -e /etc/apt/sources.list.d/debian.sources ]; then
        awk -v RS= -v ORS='\n\n' '!/-security/' /etc/apt/sources.list.d/debian.sources |
            sed "/^Architectures:/d; s/^Suites:.*/Suites: $suite/" > "$apt/sources/debian.sources"
    else
        grep -hE '^deb ' /etc/apt/sources.list | grep -vE -- '-(security|updates)' | sed -E "s/ $(debian_release)( |$)/ $suite /" > "$apt/sources/debian.list"
    fi
    local options=(-o "APT::Architecture=$architecture" -o "APT::Architectures::=$architecture" -o "Dir::State=$apt"
        -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache"
        -o "APT::Sandbox::User=$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=1
        -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$apt/sources")
    apt-get "${options[@]}" update -qq || return
    apt-get "${options[@]}" install -y -qq -d --no-install-recommends "$@" > /dev/null || return
    local part package
    for part in bin lib lib64 sbin; do ln -sfn "usr/$part" "$root/$part"; done
    for package in "$apt"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink
    done
    rm -rf "$apt"
    touch "$root/complete"
}

# The code name of this system's release.
debian_release() { . /etc/os-release && echo "$VERSION_CODENAME"; }
