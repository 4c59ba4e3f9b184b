#!/usr/bin/env bash
# MkDocs' own theme takes color_mode: auto together with highlightjs: false, builds in silence under --strict, and the script that
# switches the colours then fails in every reader's browser.
#
# darkmode.js asks for the elements "hljs-light" and "hljs-dark" and sets their `disabled`. The template writes them only where
# highlightjs is on, and that loads the highlighter from another host. So a site without outside requests gets a TypeError per page, and
# what follows in that script (the menu's mark, the listener for the system's change of colours) does not run. Keep color_mode: light.
#
# Seen with MkDocs 1.6.1, Python 3.11:
# highlightjs: true   build 0   hljs-light in the page: yes   asked for by darkmode.js: yes
# highlightjs: false  build 0   hljs-light in the page: no    asked for by darkmode.js: yes
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3.11 -m venv venv
venv/bin/pip install -q mkdocs==1.6.1
venv/bin/mkdocs --version
mkdir docs
echo "# Hello" > docs/index.md
for on in true false; do
    printf 'site_name: x\ntheme: {name: mkdocs, color_mode: auto, highlightjs: %s}\n' "$on" > mkdocs.yml
    code=0
    venv/bin/mkdocs build -q --strict -d "site-$on" || code=$?
    page=no; grep -q 'id="hljs-light"' "site-$on/index.html" && page=yes
    asked=no; grep -q "getElementById('hljs-light')" "site-$on/js/darkmode.js" && grep -q darkmode.js "site-$on/index.html" && asked=yes
    printf 'highlightjs: %-6s build %s   hljs-light in the page: %-4s asked for by darkmode.js: %s\n' "$on" "$code" "$page" "$asked"
    echo "$code $page $asked" > "$on"
done
[ "$(cat true)" = "0 yes yes" ] && [ "$(cat false)" = "0 no yes" ] || { echo "that has changed"; exit 1; }
