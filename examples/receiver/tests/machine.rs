//! What the receiver asks of the machine: files that are its own, and few connections.

use crate::support::{Folder, Server, command};
use serde_json::json;
use std::fs::{self, Permissions};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};

fn set(path: &str, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &str) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Starts one on a free port, and gives what it says to standard error until it is stopped.
fn said(db: &str) -> String {
    let mut child = command()
        .args(["--port", "0", "--db", db])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn files_that_others_can_open_are_mended_and_named() {
    let folder = Folder::new("modes");
    let db = folder.file();
    assert_eq!(said(&db), "");
    let files = ["", "-wal", "-shm"].map(|end| format!("{db}{end}"));
    for bad in [0o666, 0o777, 0o644, 0o604, 0o660] {
        files.iter().for_each(|file| set(file, bad));
        let said = said(&db);
        for file in &files {
            assert_eq!(mode(file), 0o600, "{file} {bad:o}");
            assert!(
                said.contains(&format!("{file} was open to other users (mode {bad:04o})")),
                "{said}"
            );
        }
    }
    let directory = folder.0.display().to_string();
    for bad in [0o777, 0o775, 0o757] {
        set(&directory, bad);
        let said = said(&db);
        assert!(
            said.contains(&format!(
                "{directory} can be changed by other users (mode {bad:04o})"
            )) && said.contains(&format!("chmod go-w {directory}")),
            "{said}"
        );
    }
    for good in [0o755, 0o700, 0o1777] {
        set(&directory, good);
        assert_eq!(said(&db), "", "{good:o}");
    }
}

#[test]
fn links_are_followed_to_the_database_and_nowhere_else() {
    let (folder, elsewhere) = (Folder::new("links"), Folder::new("links-target"));
    let (link, target) = (folder.file(), elsewhere.file());
    symlink(&target, &link).unwrap();
    assert_eq!(said(&link), "", "made where the link leads to");
    set(&target, 0o666);
    assert!(said(&link).contains("mode 0666"));
    assert_eq!(mode(&target), 0o600);
    // Somebody else's link in the place of a file that SQLite would write.
    for end in ["-wal", "-shm", "-journal"] {
        let planted = format!("{target}{end}");
        let _ = fs::remove_file(&planted);
        let victim = elsewhere.0.join("victim").display().to_string();
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, &planted).unwrap();
        let said = said(&link);
        assert!(
            said.contains(&planted) && said.contains("remove it"),
            "{end}: {said}"
        );
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        fs::remove_file(&planted).unwrap();
    }
    let other = folder.0.join("other").display().to_string();
    fs::write(&other, "a text of mine").unwrap();
    set(&other, 0o644);
    assert!(said(&other).contains("give another path"));
    assert_eq!(mode(&other), 0o644, "no database of ours is left alone");
    assert!(said("/dev/null").contains("not a regular file"));
}

#[test]
fn silent_connections_stop_nobody() {
    // Fewer files than connections: what Linux gives by default is 1,024 of them.
    for files in ["1024", "100"] {
        let mut child = std::process::Command::new("sh")
            .args([
                "-c",
                &format!("ulimit -n {files}; exec \"$0\" --port 0 --db :memory:"),
                env!("CARGO_BIN_EXE_agentwatch-receiver"),
            ])
            .env_remove("AGENTWATCH_TOKEN")
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(
            &mut std::io::BufReader::new(child.stdout.take().unwrap()),
            &mut line,
        )
        .unwrap();
        let address = line
            .split_once("http://")
            .unwrap()
            .1
            .split_once('/')
            .unwrap()
            .0
            .to_owned();
        let server = Server {
            child,
            line,
            address,
        };
        let mut held = Vec::new();
        for wave in 0..8 {
            held.extend((0..100).map(|_| TcpStream::connect(&server.address).unwrap()));
            let answer = server.post("model_usage", &json!({"model": "m"}));
            assert_eq!(answer.status, 200, "{files} files, wave {wave}");
            assert_eq!(server.get("/models").status, 200);
            held.truncate(700);
        }
        assert_eq!(server.list("/api/model-stats")[0]["requests"], 8);
    }
}

#[test]
fn bodies_that_stall_stop_nobody() {
    use std::io::Write;
    let server = Server::start(&[]);
    let held: Vec<_> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            let head = "POST /api/v1/ingest/batch HTTP/1.1\r\nhost: localhost\r\ncontent-length: 999\r\n\r\n{";
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..3 {
        let answer = server.post("model_usage", &json!({"model": "m"}));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(server.get("/models").status, 200);
    }
    drop(held);
}
