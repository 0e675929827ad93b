#!/bin/sh
# Opens the patch series as a git tree, writes it back, checks it. patches/README.md says how to
# work with it.
set -eu
. "$(dirname "$0")/native-lib.sh"

patches=$root/patches
overlay=$patches/overlay

usage() {
    echo "usage: tools/patches.sh open DIR | export DIR | rebase DIR | check" >&2
    exit 2
}

fail() {
    echo "patches.sh: $*" >&2
    exit 1
}

# The user's git settings must not decide what a patch looks like.
tree_git() {
    GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null \
        git -C "$dir" -c core.autocrlf=false -c core.abbrev=12 -c core.quotePath=false \
        -c user.name=illava -c user.email=illava@localhost -c commit.gpgSign=false \
        -c advice.detachedHead=false "$@"
}

names() {
    sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$1/series"
}

header_of() {
    sed -n '/^diff --git /q;p' "$1"
}

overlay_files() {
    [ ! -d "$overlay" ] || (cd "$overlay" && find . -type f | sed 's,^\./,,' | LC_ALL=C sort)
}

# Symbolic links, ignored by the tree's git: editing the overlay there edits it here.
link_overlay() {
    overlay_files | while read -r file; do
        mkdir -p "$dir/$(dirname "$file")"
        ln -sf "$overlay/$file" "$dir/$file"
        printf '/%s\n' "$file"
    done >"$dir/.git/info/exclude"
}

open_tree() {
    [ ! -e "$dir" ] || [ -z "$(ls -A "$dir")" ] || fail "$dir is not empty"
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    materialise "$dir" --stock
    tree_git init --quiet --initial-branch=series
    tree_git add --all --force
    tree_git commit --quiet -m "llama.cpp as published"
    tree_git tag pristine
    for name in $(names "$patches"); do
        tree_git apply --index "$patches/$name" || fail "$name does not apply"
        header_of "$patches/$name" | tree_git commit --quiet --cleanup=verbatim -F -
    done
    link_overlay
}

# Writes the commits of $dir above the tag to the directory $1 as patches and a series.
write_series() {
    into=$1
    [ -z "$(tree_git status --porcelain)" ] ||
        fail "$dir has uncommitted changes or new files; new files go in patches/overlay"
    commits=$(tree_git rev-list --reverse pristine..HEAD)
    sed -n '/^#/p' "$patches/series" >"$into/series"
    for commit in $commits; do
        message=$(tree_git log -1 --format=%B "$commit")
        name=$(printf '%s\n' "$message" | sed -n '1s/^\([a-z-]*\): .*/\1/p')
        [ -n "$name" ] || fail "commit $commit: its first line is not \`name: subject\`"
        [ ! -e "$into/$name.patch" ] || fail "two commits are named $name"
        {
            printf '%s\n\n' "$message"
            tree_git diff --no-color --no-ext-diff --no-renames --diff-algorithm=myers \
                --unified=3 "$commit^" "$commit"
        } >"$into/$name.patch"
        echo "$name.patch" >>"$into/series"
    done
}

export_tree() {
    staged=$(mktemp -d)
    trap 'rm -rf "$staged"' EXIT
    write_series "$staged"
    for old in "$patches"/*.patch; do
        [ ! -e "$old" ] || [ -e "$staged/$(basename "$old")" ] || rm "$old"
    done
    for new in "$staged"/*; do
        cmp -s "$new" "$patches/$(basename "$new")" || cp "$new" "$patches/"
    done
}

rebase_tree() {
    [ -z "$(tree_git status --porcelain)" ] || fail "$dir has uncommitted changes or new files"
    old=$(tree_git rev-parse pristine)
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    materialise "$fresh/tree" --stock
    # The new source becomes a commit on the old one without the working tree taking part.
    written=$(
        export GIT_INDEX_FILE="$fresh/index" GIT_WORK_TREE="$fresh/tree"
        tree_git add --all --force
        tree_git write-tree
    )
    new=$(tree_git commit-tree "$written" -p "$old" -m "llama.cpp as published, next version")
    tree_git tag --force pristine "$new" >/dev/null
    tree_git rebase --onto pristine "$old" series
}

check() {
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    materialise "$scratch/applied"
    (cd "$root" && cargo test --quiet --release -p patched-source --test upstream)
    dir=$scratch/tree
    open_tree
    # The build's own way of applying and git's agree on every file.
    diff -r -q --exclude=.git "$scratch/applied" "$dir" || fail "git applies the series differently"
    mkdir "$scratch/again"
    write_series "$scratch/again"
    for name in series $(names "$patches"); do
        cmp "$patches/$name" "$scratch/again/$name" ||
            fail "$name is not as exporting writes it: open, then export"
    done
    echo "the series applies, and exports as it is"
}

[ $# -ge 1 ] || usage
case $1 in
    open | export | rebase)
        [ $# -eq 2 ] || usage
        dir=$2
        [ "$1" = open ] || [ -d "$dir/.git" ] || fail "$dir was not made by \`open\`"
        "${1}_tree"
        ;;
    check) check ;;
    *) usage ;;
esac
