//! The program as a person or a script meets it: its line, its flags, its file, its end, its page.

use crate::support::{Folder, Server, command};
use serde_json::json;
use std::process::Command;

const HOSTILE: &str = "<img src=x onerror=\"alert('1')\">&amp;";

#[test]
fn it_says_where_it_listens_and_stops_when_asked() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        let line = format!(
            "agentwatch-receiver listening on http://{}/models\n",
            server.address
        );
        assert_eq!(server.line, line);
        let id = server.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([&format!("-{signal}"), &id])
                .status()
                .unwrap()
                .success()
        );
        assert!(server.child.wait().unwrap().success(), "{signal}");
    }
}

#[test]
fn what_stands_in_the_way_is_named() {
    let server = Server::start(&[]);
    let port = server.address.rsplit_once(':').unwrap().1;
    let folder = Folder::new("foreign");
    std::fs::write(folder.file(), "no database at all, but some text").unwrap();
    for (args, says) in [
        (vec!["--prot", "1"], "--prot"),
        (vec!["--port", "99999"], "--port"),
        (vec!["--db", ":memory:", "--port", port], "already in use"),
        (
            vec!["--db", "/nowhere/at/all.db", "--port", "0"],
            "--db /nowhere/at/all.db",
        ),
        (
            vec!["--db", &folder.file(), "--port", "0"],
            "give another path",
        ),
    ] {
        let output = command().args(&args).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && error.contains(says),
            "{args:?}: {error}"
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[cfg(unix)]
#[test]
fn its_file_is_private_and_outlives_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("private");
    let first = Server::start_on(&folder.file(), &[]);
    first.post("model_usage", &json!({"model": "kept", "id": "x"}));
    for entry in std::fs::read_dir(&folder.0).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{entry:?}"
        );
    }
    drop(first); // Killed, not stopped.
    let second = Server::start_on(&folder.file(), &[]);
    assert_eq!(second.list("/api/model-stats")[0]["model"], "kept");
}

#[test]
fn stopped_it_leaves_one_file() {
    let folder = Folder::new("stopped");
    let mut server = Server::start_on(&folder.file(), &[]);
    server.post("model_usage", &json!({"model": "m"}));
    assert_eq!(server.get("/models").status, 200);
    let id = server.child.id().to_string();
    Command::new("kill").arg(id).status().unwrap();
    assert!(server.child.wait().unwrap().success());
    let left = std::fs::read_dir(&folder.0).unwrap().count();
    assert_eq!(left, 1, "the log is in the file");
}

#[test]
fn the_page_shows_each_model_and_escapes_its_name() {
    for mode in [&[][..], &["--stock"][..]] {
        let server = Server::start(mode);
        let empty = server.get("/models?hours=168");
        assert!(empty.text.contains("No model calls in the last 7 days"));
        server.post(
            "model_usage",
            &json!({"model": HOSTILE, "prompt_tokens": 1200, "completion_tokens": 34, "cost_usd": 0.25,
                    "latency_ms": 1500, "cost_source": "unknown"}),
        );
        let page = server.get("/models");
        assert!(!page.text.contains("<img"), "{}", page.text);
        let name = "&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;amp;";
        assert!(page.text.contains(name), "{}", page.text);
        let row = page.text.split("id=\"rows\">").nth(1).unwrap();
        let row = row.split("</table>").next().unwrap();
        let cells: Vec<&str> = row
            .split("<td>")
            .skip(1)
            .map(|cell| cell.split('<').next().unwrap().trim())
            .collect();
        let cached = "–";
        assert_eq!(
            cells,
            [
                "1", "1,200", cached, "34", "1,234", "$0.2500", "100 %", "1.50 s", "1.50 s",
                "1.50 s", "0"
            ]
        );
        // Stock AgentWatch does not keep where a cost came from.
        assert_eq!(page.text.contains("1 of 1 unpriced"), mode.is_empty());
        let policy = page.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(
            !page.text.contains("style=") && !page.text.contains("<script>"),
            "nothing inline"
        );
        for asset in ["models.css", "models.js", "icon.svg"] {
            assert_eq!(server.get(&format!("/assets/{asset}")).status, 200);
        }
        assert!(!server.get("/assets/models.js").text.contains("innerHTML"));
        assert_eq!(server.get("/").header("location"), Some("/models"));
    }
}

#[test]
fn a_page_that_listens_does_not_hold_up_the_end() {
    let mut server = Server::start(&[]);
    let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
    std::io::Write::write_all(
        &mut stream,
        b"GET /models/events HTTP/1.1\r\nhost: localhost\r\n\r\n",
    )
    .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stream));
    assert!(lines.any(|line| line.unwrap() == "event: changed"));
    server.post("model_usage", &json!({"model": "m"}));
    assert!(
        lines.any(|line| line.unwrap() == "event: changed"),
        "told of the call"
    );
    let begun = std::time::Instant::now();
    let id = server.child.id().to_string();
    Command::new("kill").arg(id).status().unwrap();
    assert!(server.child.wait().unwrap().success());
    assert!(
        begun.elapsed().as_secs() < 5,
        "requests under way would get five seconds"
    );
}

#[test]
fn two_processes_write_to_one_file_and_lose_nothing() {
    let folder = Folder::new("two");
    let servers = [
        Server::start_on(&folder.file(), &[]),
        Server::start_on(&folder.file(), &[]),
    ];
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let server = &servers[writer % 2];
            scope.spawn(move || {
                for post in 0..10 {
                    let record =
                        |n| json!({"id": format!("{}-{post}-{n}", writer / 2), "model": "m"});
                    let answer = server.post("model_usage", &(0..10).map(record).collect());
                    assert_eq!(answer.status, 200, "{answer:?}");
                }
            });
        }
    });
    // Two writers sent each id through different processes.
    for server in &servers {
        assert_eq!(server.list("/api/model-stats")[0]["requests"], 200);
    }
}
