use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use tar::Header;

use super::*;

/// Runs a script of a guest with busybox's words for tar, or this machine's.
fn script(text: &str, arguments: &[&Path], more: &[&str]) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", text, "weft-cp"]).args(arguments).args(more);
    shell
}

/// `source` to `to` in "the guest", as `weft cp` does it.
fn put(source: &Path, to: &Path) -> Result<(), String> {
    let source = Source::of(source).unwrap();
    let kind = if source.is_directory { "directory" } else { "file" };
    let mut child = script(UNPACK, &[to], &[source.name.to_str().unwrap(), kind, "no"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let packed = pack(&source, child.stdin.take().unwrap());
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    packed.unwrap();
    Ok(())
}

/// `path` of "the guest" to `to`.
fn get(path: &Path, to: &Path) -> Result<(), String> {
    let output = script(PACK, &[path], &[]).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    unpack(output.stdout.as_slice(), to).map_err(|problem| problem.message)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory with what directories have in them.
fn tree(at: &Path) {
    fs::create_dir_all(at.join("sub/read-only")).unwrap();
    fs::write(at.join("sub/run me.sh"), "#!/bin/sh\n").unwrap();
    chmod(&at.join("sub/run me.sh"), 0o751);
    fs::write(at.join("sub/read-only/file"), vec![7; 100_000]).unwrap();
    chmod(&at.join("sub/read-only"), 0o555);
    fs::create_dir(at.join("empty")).unwrap();
    symlink("sub/run me.sh", at.join("link")).unwrap();
    symlink("/nowhere", at.join("dangling")).unwrap();
    let long = "n".repeat(200);
    fs::write(at.join(&long), "long").unwrap();
    fs::hard_link(at.join(&long), at.join("other name")).unwrap();
    chmod(at, 0o750);
}

fn assert_tree(at: &Path) {
    assert_eq!(mode(at), 0o750);
    assert_eq!(mode(&at.join("sub/run me.sh")), 0o751);
    assert_eq!(mode(&at.join("sub/read-only")), 0o555);
    assert_eq!(fs::read(at.join("sub/read-only/file")).unwrap(), vec![7; 100_000]);
    assert!(at.join("empty").is_dir());
    assert_eq!(fs::read_link(at.join("link")).unwrap(), Path::new("sub/run me.sh"));
    assert_eq!(fs::read_link(at.join("dangling")).unwrap(), Path::new("/nowhere"));
    assert_eq!(fs::read(at.join("n".repeat(200))).unwrap(), b"long");
    assert_eq!(fs::read(at.join("other name")).unwrap(), b"long");
}

#[test]
fn a_directory_comes_back_as_it_went_and_twice_is_as_good_as_once() {
    let here = tempfile::tempdir().unwrap();
    let (source, there, back) =
        (here.path().join("it's a tree"), here.path().join("there"), here.path().join("back"));
    tree(&source);
    for _ in 0..2 {
        // The second time into the directory itself.
        let to = if there.is_dir() { here.path().join("there/.") } else { there.clone() };
        put(&if there.is_dir() { source.join(".") } else { source.clone() }, &to).unwrap();
        assert_tree(&there);
        get(&there, &back).unwrap();
        assert_tree(&back);
    }
    // Into a directory that is there: under its own name.
    let into = here.path().join("into");
    fs::create_dir(&into).unwrap();
    put(&source, &into).unwrap();
    assert_tree(&into.join("it's a tree"));
}

#[test]
fn a_file_gets_its_name_and_keeps_its_mode_and_leaves_nothing_beside_it() {
    let here = tempfile::tempdir().unwrap();
    let (a, b) = (here.path().join("a"), here.path().join("b"));
    fs::create_dir(&a).unwrap();
    fs::create_dir(&b).unwrap();
    let source = a.join("-x y");
    fs::write(&source, "text").unwrap();
    chmod(&source, 0o640);
    put(&source, &b).unwrap();
    put(&source, &b.join("new")).unwrap();
    put(&source, &b.join("new")).unwrap();
    let back = b.join("back");
    get(&b.join("-x y"), &back).unwrap();
    get(&b.join("-x y"), &back).unwrap();
    for name in ["-x y", "new", "back"] {
        assert_eq!(fs::read(b.join(name)).unwrap(), b"text", "{name}");
        assert_eq!(mode(&b.join(name)), 0o640, "{name}");
    }
    let (before, after) = (source.metadata().unwrap(), back.metadata().unwrap());
    let seconds = |m: &fs::Metadata| {
        m.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    };
    assert_eq!(seconds(&before), seconds(&after));
    assert_eq!(fs::read_dir(&b).unwrap().count(), 3);
}

#[test]
fn what_cannot_be_put_somewhere_is_said() {
    let here = tempfile::tempdir().unwrap();
    let at = |name: &str| here.path().join(name);
    fs::write(at("file"), "x").unwrap();
    fs::create_dir_all(at("dir/file")).unwrap();
    for (source, to, want) in [
        ("file", "none/x", "No such file or directory"),
        ("file", "none/", "does not exist"),
        ("file", "dir", "is a directory, and a file is to be put there"),
        ("dir", "file", "File exists"),
        ("dir", "none/x", "No such file or directory"),
    ] {
        let said = put(&at(source), &at(to)).unwrap_err();
        assert!(said.contains(want), "{source} {to}: {said}");
    }
    assert!(get(&at("none"), &at("new")).unwrap_err().contains("does not exist"));
    assert!(get(&at("file"), &at("dir/file")).unwrap_err().contains("is a directory"));
    assert!(!at("new").exists());
}

#[test]
fn half_a_file_is_no_file() {
    let here = tempfile::tempdir().unwrap();
    let to = here.path().join("to");
    let mut whole = Vec::new();
    let source = here.path().join("source");
    fs::write(&source, vec![1; 10_000]).unwrap();
    pack(&Source::of(&source).unwrap(), &mut whole).unwrap();
    for length in [0, 100, 512, 5_000] {
        let problem = unpack(&whole[..length], &to).unwrap_err();
        assert!(!to.exists(), "{length}: {problem}");
    }
    assert_eq!(fs::read_dir(here.path()).unwrap().count(), 1, "something was left");
    unpack(whole.as_slice(), &to).unwrap();
    assert_eq!(fs::read(&to).unwrap().len(), 10_000);
}

/// An archive such as only a guest that means harm sends.
fn hostile(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    let root = [(EntryType::Directory, "./", "")];
    for (kind, path, link) in root.iter().chain(entries) {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_size(0);
        // By hand: the library would not write such a path.
        let name = &mut header.as_gnu_mut().unwrap().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        let target = &mut header.as_gnu_mut().unwrap().linkname;
        target[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn nothing_that_a_guest_sends_is_written_elsewhere() {
    let here = tempfile::tempdir().unwrap();
    let outside = here.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "kept").unwrap();
    let out = outside.to_str().unwrap();
    let through = format!("{out}/new");
    use EntryType::{Char, Directory, Fifo, GNUSparse, Link, Regular, Symlink};
    let cases: [&[(EntryType, &str, &str)]; 10] = [
        &[(Regular, "../new", "")],
        &[(Regular, "a/../../new", "")],
        &[(Symlink, "a", out), (Regular, "a/new", "")],
        &[(Symlink, "a", ".."), (Regular, "a/outside/new", "")],
        &[(Symlink, "a", out), (Directory, "a/new", "")],
        &[(Link, "a", &format!("{out}/secret")), (Regular, "a", "")],
        &[(Symlink, "a", out), (Link, "a/secret", "a/secret")],
        &[(Char, "device", "")],
        &[(Fifo, "pipe", "")],
        &[(GNUSparse, "holes", "")],
    ];
    for (n, entries) in cases.iter().enumerate() {
        let to = here.path().join(format!("to-{n}"));
        let result = unpack(hostile(entries).as_slice(), &to);
        assert!(result.is_err(), "{entries:?}");
        let names: Vec<_> =
            fs::read_dir(&outside).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["secret"], "{entries:?}");
        assert_eq!(fs::read(outside.join("secret")).unwrap(), b"kept");
    }
    // An absolute path is one below the target, and a symbolic link replaces no file behind it.
    let to = here.path().join("to");
    fs::create_dir(&to).unwrap();
    symlink(outside.join("secret"), to.join("link")).unwrap();
    unpack(hostile(&[(Regular, "link", ""), (Regular, &through, "")]).as_slice(), &to).unwrap();
    assert_eq!(fs::read(outside.join("secret")).unwrap(), b"kept");
    assert!(to.join(through.trim_start_matches('/')).is_file());
    assert_eq!(mode(&to.join("link")), 0o755, "the right to run it as its owner was taken over");
}

mod fuzz {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    #[derive(Clone, Debug)]
    struct Member {
        kind: u8,
        name: &'static str,
        link: &'static str,
        content: Vec<u8>,
        /// Another size than the content has.
        lies: Option<u64>,
    }

    const NAMES: [&str; 12] = [
        "./",
        "./a",
        "./a/b",
        "./a/b/../../../outside/x",
        "../outside/x",
        "/outside/x",
        "./link/x",
        "link",
        "a",
        "",
        "a\u{7f}\u{1b}[1m",
        "./..",
    ];

    fn member() -> impl Strategy<Value = Member> {
        let kind = select(vec![
            b'0', b'\0', b'1', b'2', b'3', b'5', b'6', b'7', b'L', b'K', b'x', b'g', b'V', b'S',
        ]);
        let links = ["../outside", "../outside/kept", "/", "a", ".", "link", ""];
        let lies = proptest::option::weighted(0.1, any::<u64>());
        let content = vec(any::<u8>(), 0..700);
        (kind, select(NAMES.to_vec()), select(links.to_vec()), content, lies).prop_map(
            |(kind, name, link, content, lies)| Member { kind, name, link, content, lies },
        )
    }

    /// An archive as tar would never write it, with sums that are right.
    fn archive(members: &[Member]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for Member { kind, name, link, content, lies } in members {
            let mut header = Header::new_gnu();
            let old = header.as_old_mut();
            old.name[..name.len()].copy_from_slice(name.as_bytes());
            old.linkname[..link.len()].copy_from_slice(link.as_bytes());
            old.linkflag = [*kind];
            header.set_mode(0o7777);
            header.set_size(lies.unwrap_or(content.len() as u64));
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    /// What a guest sends changes nothing outside of where it is to go.
    #[test]
    fn no_archive_of_a_guest_panics_or_leaves_its_place() {
        let spoiled = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        weft_fuzz::fuzz(200, (vec(member(), 0..6), spoiled), |(members, spoils)| {
            let mut bytes = archive(&members);
            for (at, value) in spoils {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            let here = tempfile::tempdir().unwrap();
            fs::create_dir(here.path().join("outside")).unwrap();
            fs::write(here.path().join("outside/kept"), "kept").unwrap();
            fs::create_dir(here.path().join("in")).unwrap();
            let _ = unpack(bytes.as_slice(), &here.path().join("in/to"));
            let names = |path: &str| {
                let entries = fs::read_dir(here.path().join(path)).unwrap();
                let mut names: Vec<_> = entries
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect();
                names.sort();
                names
            };
            prop_assert_eq!(names("."), ["in", "outside"]);
            prop_assert_eq!(names("outside"), ["kept"]);
            prop_assert!(names("in").iter().all(|name| name == "to"));
            let kept = here.path().join("outside/kept");
            prop_assert_eq!(fs::read(&kept).unwrap(), b"kept");
            prop_assert_eq!(mode(&kept) & 0o7000, 0);
            Ok(())
        });
    }
}
