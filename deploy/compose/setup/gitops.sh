# A bare repository with what examples/first-day releases, once. Clone it, change it and push: rollout looks every 10 seconds.
set -eu
[ -e /srv/git/gitops.git ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -R /gitops/. "$work"
cd "$work"
git init --quiet --initial-branch main
git add --all
git -c user.name=first-day -c user.email=first-day@example.com commit --quiet --message "The first tree"
git clone --quiet --bare . /srv/git/gitops.git.new
mv /srv/git/gitops.git.new /srv/git/gitops.git
