//! Restricts access to the database's files to their owner, whoever created them and with whatever mode.

use std::fs::{self, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Suffixes of SQLite's files beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Checks the database's path before SQLite opens it.
///
/// # Errors
/// A sentence, if another user may have placed something there that SQLite would follow or read.
pub fn check(path: &Path) -> Result<(), String> {
    let me = rustix::process::geteuid().as_raw();
    let Some(link) = look(path)? else {
        return Ok(());
    };
    if link.is_symlink() && ![me, 0].contains(&link.uid()) {
        return Err(format!(
            "a symbolic link of another user (uid {}): give the path that it leads to",
            link.uid()
        ));
    }
    // A dangling link: the database is created at its target.
    let Ok(file) = fs::metadata(path) else {
        return Ok(());
    };
    if !file.is_file() {
        return Err("not a regular file: give another path".into());
    }
    for beside in beside(path)? {
        let Some(found) = look(&beside)? else {
            continue;
        };
        if !found.is_file() || ![me, 0, file.uid()].contains(&found.uid()) {
            return Err(format!(
                "{} belongs to another user or is not a regular file: remove it",
                beside.display()
            ));
        }
    }
    Ok(())
}

/// Removes other users' access to the files. Returns a sentence for each change or remaining problem.
///
/// # Errors
/// A sentence, if the file cannot be checked.
pub fn mend(path: &Path) -> Result<Vec<String>, String> {
    let mut said = Vec::new();
    let mut files = vec![path.to_owned()];
    files.extend(beside(path)?);
    for file in files {
        let Some(mode) = fs::metadata(&file).ok().map(|found| mode_of(&found)) else {
            continue;
        };
        if mode & 0o077 == 0 {
            continue;
        }
        let name = file.display();
        // On the open file, so that it is the one that was checked.
        let mended =
            File::open(&file).and_then(|file| file.set_permissions(Permissions::from_mode(0o600)));
        said.push(match mended {
            Ok(()) => format!("{name} was open to other users (mode {mode:04o}): it has mode 0600 now"),
            Err(error) => format!(
                "{name} is open to other users (mode {mode:04o}), and that cannot be changed ({error}): chmod 600 {name}"
            ),
        });
    }
    said.extend(folder(path)?);
    Ok(said)
}

/// The folder's mode is not changed.
fn folder(path: &Path) -> Result<Option<String>, String> {
    let file = path.canonicalize().map_err(text)?;
    let Some(folder) = file.parent() else {
        return Ok(None);
    };
    let mode = mode_of(&fs::metadata(folder).map_err(text)?);
    // In a sticky folder such as /tmp, a file still belongs to its owner.
    let is_open = mode & 0o022 != 0 && mode & 0o1000 == 0;
    Ok(is_open.then(|| {
        let name = folder.display();
        format!(
            "its folder {name} can be changed by other users (mode {mode:04o}), who can put another database in its \
             place: chmod go-w {name}"
        )
    }))
}

/// SQLite names these files after a link's target too.
fn beside(path: &Path) -> Result<Vec<PathBuf>, String> {
    let file = path.canonicalize().map_err(text)?;
    let named = |end: &&str| {
        let mut name = file.clone().into_os_string();
        name.push(end);
        PathBuf::from(name)
    };
    Ok(BESIDE.iter().map(named).collect())
}

fn look(path: &Path) -> Result<Option<Metadata>, String> {
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{error}: give a file in a folder you can write")),
    }
}

fn mode_of(found: &Metadata) -> u32 {
    found.permissions().mode() & 0o7777
}

fn text(error: io::Error) -> String {
    error.to_string()
}
