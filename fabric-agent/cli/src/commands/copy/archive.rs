//! What goes over the wire: an archive of one file, or of what is in a directory (`./...`).

use std::io::{BufWriter, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tar::{Archive, Builder, Entry, EntryType};
use weft_model::{Problem, Reason};

use super::place::Source;

/// The scripts' exit status where the guest has no tar, as a shell says that there is no command.
pub(super) const NO_TAR: u8 = 127;

/// Run in the guest: writes the archive of `$1` to standard output.
pub(super) const PACK: &str = r#"
command -v tar >/dev/null || exit 127
cd -- "$(dirname -- "$1")" || exit 1
name=$(basename -- "$1")
if [ -d "$name" ]; then
    cd -- "$name" && exec tar -cf - .
elif [ -f "$name" ]; then
    exec tar -chf - -- "./$name"
elif [ -e "$name" ]; then
    echo "$1 is neither a file nor a directory" >&2
else
    echo "$1 does not exist" >&2
fi
exit 1
"#;

/// Run in the guest: unpacks standard input as `$1`, or as `$2` in the directory `$1`; `$3` says
/// what it is an archive of, `$4` whether `$1` has to be a directory. A file is unpacked beside its
/// place and moved there.
pub(super) const UNPACK: &str = r#"
command -v tar >/dev/null || exit 127
to=$1
case $to in -*) to=./$to ;; esac
if [ -d "$to" ]; then
    [ -z "$2" ] || to=${to%/}/$2
elif [ "$4" = yes ]; then
    echo "$1 is not a directory, which several sources need" >&2
    exit 1
else
    case $to in
    */) if [ "$3" = file ]; then echo "$1 does not exist" >&2; exit 1; fi ;;
    esac
fi
if [ "$3" = directory ]; then
    [ -d "$to" ] || mkdir -- "$to" || exit 1
    exec tar -xpof - -C "$to"
fi
if [ -d "$to" ]; then
    echo "$to is a directory, and a file is to be put there" >&2
    exit 1
fi
new=$(mktemp -d "$(dirname -- "$to")/.weft-cp.XXXXXX") || exit 1
trap 'rm -rf -- "$new"' EXIT
trap 'exit 1' HUP INT TERM
tar -xpof - -C "$new" && mv -f -- "$new/file" "$to"
"#;

/// What [`UNPACK`] knows a file by.
const FILE: &str = "file";

/// Writes the archive of `source`.
///
/// # Errors
/// Something cannot be read; [`Reason::Unavailable`] where nobody reads the archive any more.
pub(super) fn pack(source: &Source, pipe: impl Write) -> Result<(), Problem> {
    let mut builder = Builder::new(BufWriter::with_capacity(64 * 1024, pipe));
    builder.follow_symlinks(false);
    // Busybox knows nothing of GNU's sparse files.
    builder.sparse(false);
    let written = match source.is_directory {
        true => builder.append_dir_all(".", &source.path),
        false => std::fs::File::open(&source.path)
            .and_then(|mut file| builder.append_file(FILE, &mut file)),
    };
    written.and_then(|()| builder.into_inner()?.flush()).map_err(|error| refused(&error))
}

/// Reads an archive: of a file, which becomes `to`, or of what is to be in the directory `to`.
///
/// # Errors
/// It is no archive, or something cannot be written; [`Reason::Unavailable`] where it ends early.
pub(super) fn unpack(pipe: impl Read, to: &Path) -> Result<(), Problem> {
    let mut archive = Archive::new(pipe);
    let mut entries = archive.entries().map_err(|error| refused(&error))?;
    let Some(first) = entries.next() else {
        return Err(Problem::new(Reason::Unavailable, "the guest sent nothing"));
    };
    let first = first.map_err(|error| refused(&error))?;
    match first.header().entry_type() {
        EntryType::Directory => {
            make_directory(to)?;
            let mode = first.header().mode().map_err(|error| refused(&error))?;
            unpack_all(entries, to)?;
            // At last: it may not be writable.
            set_mode(to, mode)
        }
        EntryType::Regular | EntryType::Continuous => unpack_file(first, to),
        _ => Err(strange(&first)),
    }
}

fn make_directory(to: &Path) -> Result<(), Problem> {
    match std::fs::create_dir(to) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && to.is_dir() => Ok(()),
        made => made.map_err(|error| cannot("make", to, &error)),
    }
}

/// Beside its place first: it is there whole, or not at all.
fn unpack_file<R: Read>(mut entry: Entry<'_, R>, to: &Path) -> Result<(), Problem> {
    if to.is_dir() {
        let message = format!("\"{}\" is a directory, and a file is to be put there", to.display());
        return Err(Problem::new(Reason::AlreadyExists, message));
    }
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".weft-cp-")
        .tempfile_in(parent)
        .map_err(|error| cannot("write in", parent, &error))?;
    let (size, copied) = (entry.size(), std::io::copy(&mut entry, &mut file));
    let copied = copied.map_err(|error| refused(&error))?;
    if copied != size {
        return Err(Problem::new(Reason::Unavailable, "the guest sent a part only"));
    }
    let mode = entry.header().mode().map_err(|error| refused(&error))?;
    set_mode(file.path(), mode)?;
    if let Ok(seconds) = entry.header().mtime() {
        let time = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds));
        let set = time.map_or(Ok(()), |time| file.as_file().set_modified(time));
        set.map_err(|error| cannot("set the time of", to, &error))?;
    }
    file.persist(to).map(drop).map_err(|error| cannot("write", to, &error.error))
}

/// Directories come last, the deepest first: their modes may forbid to write into them.
fn unpack_all<'a, R: Read + 'a>(
    entries: impl Iterator<Item = std::io::Result<Entry<'a, R>>>,
    to: &Path,
) -> Result<(), Problem> {
    let mut directories = Vec::new();
    for entry in entries {
        let mut entry = entry.map_err(|error| refused(&error))?;
        match entry.header().entry_type() {
            EntryType::Directory => directories.push(entry),
            EntryType::Link => {
                make_way(&entry, to);
                place(&mut entry, to)?;
            }
            EntryType::Regular | EntryType::Continuous | EntryType::Symlink => {
                place(&mut entry, to)?;
            }
            EntryType::XGlobalHeader => {}
            _ => return Err(strange(&entry)),
        }
    }
    directories.sort_by(|one, other| other.path_bytes().cmp(&one.path_bytes()));
    directories.iter_mut().try_for_each(|directory| place(directory, to))
}

/// `unpack_in` follows no symbolic link out of `to`, and neither does a hard link lead there.
fn place<R: Read>(entry: &mut Entry<'_, R>, to: &Path) -> Result<(), Problem> {
    match entry.unpack_in(to) {
        Ok(true) => Ok(()),
        Ok(false) => {
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let message = format!("the guest sent \"{path}\", which leads elsewhere");
            Err(Problem::new(Reason::InvalidArgument, message))
        }
        Err(error) => Err(refused(&error)),
    }
}

/// A hard link does not replace what an earlier copy has left, unlike all else.
fn make_way<R: Read>(entry: &Entry<'_, R>, to: &Path) {
    let path = entry.path().ok();
    let inside = path.and_then(|path| {
        let parent = to.join(path.parent()?).canonicalize().ok()?;
        parent.starts_with(to.canonicalize().ok()?).then(|| parent.join(path.file_name()?).into())
    });
    let inside: Option<PathBuf> = inside.flatten();
    // Where this fails, so does the link, which says so.
    let _ = inside.map(std::fs::remove_file);
}

/// No other's rights to run something as the owner are taken over.
fn set_mode(path: &Path, mode: u32) -> Result<(), Problem> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode & 0o777))
        .map_err(|error| cannot("set the mode of", path, &error))
}

fn strange<R: Read>(entry: &Entry<'_, R>) -> Problem {
    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    if entry.header().entry_type() == EntryType::GNUSparse {
        // The guest's tar is not asked for such: a few bytes of it would be as many as they claim.
        let message = format!("the guest sent \"{path}\" as a file with holes");
        return Problem::new(Reason::InvalidArgument, message);
    }
    let message = format!("\"{path}\" is a device, a socket or a pipe in the guest");
    Problem::new(Reason::InvalidArgument, message).remedy("copy the files beside it one by one")
}

fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> Problem {
    Problem::new(reason(error), format!("cannot {verb} \"{}\": {error}", path.display()))
}

fn refused(error: &std::io::Error) -> Problem {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if !message.contains(&cause.to_string()) {
            message = format!("{message}: {cause}");
        }
        source = cause.source();
    }
    Problem::new(reason(error), message)
}

/// Whether the other end of the pipe has gone is what decides whose fault is told.
fn reason(error: &std::io::Error) -> Reason {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof => Reason::Unavailable,
        ErrorKind::StorageFull => Reason::ResourceExhausted,
        _ => Reason::FailedPrecondition,
    }
}

#[cfg(test)]
mod tests;
