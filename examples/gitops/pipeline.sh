#!/bin/sh
# The steps of a pipeline over this configuration. What a CI system does is in here, so that it can be
# run and tested anywhere; its own files only say when.
#
#   pipeline.sh plan      plans this commit: plan/plan.bin, plan/plan.txt, plan/tree
#   pipeline.sh apply     applies plan/plan.bin, if this commit has the files that it was made of
#   pipeline.sh drift     plans, and ends with 2 where what there is differs from the configuration
#   pipeline.sh tree      prints what identifies the files of this configuration
#
# Environment:
#   WEFT_ENDPOINT         https://AGENT:7443
#   WEFT_CA_CERT, WEFT_CLIENT_CERT, WEFT_CLIENT_KEY
#                         as the provider takes them: a path or PEM text
#   WEFT_STATE            the state's name; unset: the name of this folder
#   WEFT_LOCK_TIMEOUT     how long to wait for the state's lock; unset: 10m
#   PLAN_DIR              where the plan is; unset: plan. It holds secrets, as the state does
#   TERRAFORM             the program; unset: terraform
#
# Exit status: 0, 1 for an error, 2 for drift, 3 for a plan that is not of these files.
set -eu

cd "$(dirname "$0")"
TERRAFORM=${TERRAFORM:-terraform}
PLAN_DIR=${PLAN_DIR:-plan}
LOCK_TIMEOUT=${WEFT_LOCK_TIMEOUT:-10m}
export TF_IN_AUTOMATION=1 TF_INPUT=0

say() {
    echo "pipeline: $*" >&2
}

die() {
    say "$1"
    exit "${2:-1}"
}

# pem NAME VALUE: VALUE, or what is in the file of that name.
pem() {
    case $2 in
    '') die "$1 is not set" ;;
    *-----BEGIN*) printf '%s\n' "$2" ;;
    *) cat "$2" || die "$1: there is no file $2" ;;
    esac
}

# The same certificate opens the API and the state.
backend() {
    case ${WEFT_ENDPOINT:-} in
    https://*) ;;
    *) die "WEFT_ENDPOINT has to be https://AGENT:PORT: the state is served over TCP alone" ;;
    esac
    TF_HTTP_ADDRESS=${WEFT_ENDPOINT%/}/state/${WEFT_STATE:-$(basename "$PWD")}
    TF_HTTP_LOCK_ADDRESS=$TF_HTTP_ADDRESS
    TF_HTTP_UNLOCK_ADDRESS=$TF_HTTP_ADDRESS
    TF_HTTP_CLIENT_CA_CERTIFICATE_PEM=$(pem WEFT_CA_CERT "${WEFT_CA_CERT:-}") || exit 1
    TF_HTTP_CLIENT_CERTIFICATE_PEM=$(pem WEFT_CLIENT_CERT "${WEFT_CLIENT_CERT:-}") || exit 1
    TF_HTTP_CLIENT_PRIVATE_KEY_PEM=$(pem WEFT_CLIENT_KEY "${WEFT_CLIENT_KEY:-}") || exit 1
    export TF_HTTP_ADDRESS TF_HTTP_LOCK_ADDRESS TF_HTTP_UNLOCK_ADDRESS \
        TF_HTTP_CLIENT_CA_CERTIFICATE_PEM TF_HTTP_CLIENT_CERTIFICATE_PEM TF_HTTP_CLIENT_PRIVATE_KEY_PEM
}

# What git has of this folder at this commit: equal for a branch that was planned and for its merge,
# unless something else was merged in between.
tree() {
    git rev-parse --verify --quiet "HEAD:./" || die "this is no commit of a git repository"
}

# Planned is what is checked out, so nothing may differ from it.
clean() {
    changed=$(git status --porcelain --untracked-files=all -- .)
    [ -z "$changed" ] || die "there are changes that are in no commit:
$changed"
}

init() {
    backend
    [ -f .terraform.lock.hcl ] || die "there is no .terraform.lock.hcl: terraform init \
-backend=false writes it; commit it, so that every run has the same provider"
    "$TERRAFORM" init -input=false -no-color -lockfile=readonly >&2 || die "terraform init failed, see above"
}

# make_plan: 0 without changes, 2 with some.
make_plan() {
    clean
    planned=$(tree) || exit 1
    init
    rm -rf "$PLAN_DIR"
    (umask 077 && mkdir -p "$PLAN_DIR") || exit 1
    status=0
    "$TERRAFORM" plan -input=false -no-color -detailed-exitcode -lock-timeout="$LOCK_TIMEOUT" \
        -out="$PLAN_DIR/plan.bin" >&2 || status=$?
    case $status in
    0 | 2) ;;
    *) die "terraform plan failed, see above" ;;
    esac
    "$TERRAFORM" show -no-color "$PLAN_DIR/plan.bin" >"$PLAN_DIR/plan.txt" ||
        die "the plan cannot be shown, see above"
    # Last: a plan without it was not finished.
    echo "$planned" >"$PLAN_DIR/tree"
    return "$status"
}

case ${1:-} in
plan)
    status=0
    make_plan || status=$?
    [ "$status" -ne 1 ] || exit 1
    cat "$PLAN_DIR/plan.txt"
    ;;
apply)
    [ -f "$PLAN_DIR/tree" ] || die "there is no plan in $PLAN_DIR: plan first" 3
    planned=$(cat "$PLAN_DIR/tree")
    [ "$planned" = "$(tree)" ] ||
        die "the plan was made of other files than this commit has: something else was merged \
meanwhile; plan this commit, look at it, and apply that" 3
    init
    "$TERRAFORM" apply -input=false -no-color -lock-timeout="$LOCK_TIMEOUT" "$PLAN_DIR/plan.bin"
    # It is stale now, and has secrets.
    rm -rf "$PLAN_DIR"
    ;;
drift)
    status=0
    make_plan || status=$?
    case $status in
    0) say "what there is, is what the configuration says" ;;
    2)
        cat "$PLAN_DIR/plan.txt"
        say "what there is differs from the configuration; pipeline.sh apply does what is above"
        ;;
    esac
    exit "$status"
    ;;
tree)
    tree
    ;;
*)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$(basename "$0")" >&2
    exit 1
    ;;
esac
