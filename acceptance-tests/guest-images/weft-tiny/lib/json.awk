# Reads one JSON document and prints values out of it, decoded.
#   awk -v want='a/b/*/c' -f json.awk FILE    each scalar whose path matches
#   awk -v keys='a/b'     -f json.awk FILE    each member name or index below a path
# Path parts are joined by "/"; "*" stands for any one part. Lines before the
# document that start with "#" are skipped, so "#cloud-config" plus JSON works.
# A text that is no JSON gives a message on standard error and status 1.

function fail(what) {
    print "json: " what " at: " substr(text, 1, 40) > "/dev/stderr"
    failed = 1
    exit 1
}
function skip_space() { sub(/^[ \t\r\n]+/, "", text) }
function take(pattern,    token) {
    if (!match(text, pattern)) return ""
    token = substr(text, 1, RLENGTH)
    text = substr(text, RLENGTH + 1)
    return token
}
function hex(digits,    i, value) {
    value = 0
    digits = tolower(digits)
    for (i = 1; i <= length(digits); i++)
        value = value * 16 + index("0123456789abcdef", substr(digits, i, 1)) - 1
    return value
}
function utf8(code) {
    if (code < 128) return sprintf("%c", code)
    if (code < 2048) return sprintf("%c%c", 192 + int(code / 64), 128 + code % 64)
    return sprintf("%c%c%c", 224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
}
function decode(raw,    out, at, kind) {
    out = ""
    while ((at = index(raw, "\\")) > 0) {
        out = out substr(raw, 1, at - 1)
        kind = substr(raw, at + 1, 1)
        raw = substr(raw, at + 2)
        if (kind == "n") out = out "\n"
        else if (kind == "t") out = out "\t"
        else if (kind == "r") out = out "\r"
        else if (kind == "b") out = out "\b"
        else if (kind == "f") out = out "\f"
        else if (kind == "u") { out = out utf8(hex(substr(raw, 1, 4))); raw = substr(raw, 5) }
        else out = out kind
    }
    return out raw
}
function string(    token) {
    token = take("^\"([^\"\\\\]|\\\\.)*\"")
    if (token == "") fail("a string was expected")
    return decode(substr(token, 2, length(token) - 2))
}
function pattern_of(path,    count, parts, i, out) {
    count = split(path, parts, "/")
    out = "^"
    for (i = 1; i <= count; i++) {
        if (i > 1) out = out "/"
        if (parts[i] == "*") { out = out "[^/]+"; continue }
        gsub(/[.+?()\[\]|^$]/, "[&]", parts[i])
        out = out parts[i]
    }
    return out "$"
}
function member(path, name) {
    if (listing && path == keys) print name
    return path == "" ? name : path "/" name
}
function scalar(path, shown) {
    if (!listing && path ~ wanted) print shown
}
function value(path,    first, name, index_of, token) {
    skip_space()
    first = substr(text, 1, 1)
    if (first == "{") {
        text = substr(text, 2)
        skip_space()
        if (substr(text, 1, 1) == "}") { text = substr(text, 2); return }
        while (1) {
            skip_space()
            name = string()
            skip_space()
            if (take("^:") == "") fail("a colon was expected")
            value(member(path, name))
            skip_space()
            token = take("^[,}]")
            if (token == "}") return
            if (token == "") fail("a comma or a brace was expected")
        }
    }
    if (first == "[") {
        text = substr(text, 2)
        skip_space()
        if (substr(text, 1, 1) == "]") { text = substr(text, 2); return }
        index_of = 0
        while (1) {
            value(member(path, index_of))
            index_of++
            skip_space()
            token = take("^[],]")
            if (token == "]") return
            if (token == "") fail("a comma or a bracket was expected")
        }
    }
    if (first == "\"") { scalar(path, string()); return }
    token = take("^(true|false|null|-?[0-9][0-9.eE+-]*)")
    if (token == "") fail("a value was expected")
    if (token != "null") scalar(path, token)
}
BEGIN { text = ""; listing = (want == ""); wanted = pattern_of(want) }
text == "" && (/^#/ || /^[ \t\r]*$/) { next }
{ text = text $0 "\n" }
END {
    if (failed) exit 1
    value("")
    skip_space()
    if (text != "") fail("the document should end here")
}
