//! The command line, read once into a validated configuration.

use crate::authority::Authority;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

/// The output of `--help`.
pub const HELP: &str = "\
agentwatch-receiver: takes AgentWatch records and shows them on a Models page

Usage: agentwatch-receiver [options]

  --port <0..65535>   port to listen on; 0 lets the system choose  [8470]
  --host <address>    IP address to listen on  [127.0.0.1]
  --db <path>         database file, or :memory:  [agentwatch.db]
  --token <secret>    require this token (or set AGENTWATCH_TOKEN)
  --allow-host <name> answer requests for this host name too; may be repeated
  --stock             answer as AgentWatch 0.1.0 does, faults included
  --help, --version
";

/// Which server to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Validates records, stores batches atomically, and is idempotent by record id.
    Strict,
    /// Behaves like AgentWatch 0.1.0, as recorded.
    Stock,
}

/// Where records are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// In memory; lost when the process ends.
    Memory,
    /// A SQLite file, created with mode 0600 if it does not exist.
    File(PathBuf),
}

/// A validated configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port to listen on; 0 for any free one.
    pub port: u16,
    /// Where records are kept.
    pub database: Database,
    /// The token every `/api/` call must carry, never empty.
    pub token: Option<String>,
    /// Host names by which clients reach this server, besides its addresses; see [`crate::guard`].
    pub allowed_hosts: Vec<String>,
    /// Which server to be.
    pub mode: Mode,
}

/// Command.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Listen and serve.
    Serve(Config),
    /// Print the help and exit.
    Print(String),
}

/// Reads the arguments (without the program's name) and the token from the environment.
///
/// # Errors
/// A sentence that names the flag and its valid values.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    environment_token: Option<String>,
) -> Result<Command, String> {
    use lexopt::prelude::{Long, Short, Value};

    let mut config = Config {
        host: IpAddr::from([127, 0, 0, 1]),
        port: 8470,
        database: Database::File(PathBuf::from("agentwatch.db")),
        token: environment_token.filter(|token| !token.is_empty()),
        allowed_hosts: Vec::new(),
        mode: Mode::Strict,
    };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next().map_err(|e| e.to_string())? {
        match argument {
            Long("port") => {
                let text = text_of(&mut parser, "--port")?;
                config.port = text.parse().map_err(|_| {
                    format!("--port {text:?} is no port: give a number from 0 to 65535")
                })?;
            }
            Long("host") => {
                let text = text_of(&mut parser, "--host")?;
                config.host = parse_host(&text)?;
            }
            Long("db") => {
                let value = parser.value().map_err(|_| missing("--db"))?;
                config.database = match value {
                    v if v.is_empty() => {
                        return Err("--db is empty: give a path, or :memory:".into());
                    }
                    v if v == ":memory:" => Database::Memory,
                    v => Database::File(PathBuf::from(v)),
                };
            }
            Long("token") => {
                let text = text_of(&mut parser, "--token")?;
                if text.trim().is_empty() {
                    return Err("--token is empty: give a secret, or leave the flag out".into());
                }
                config.token = Some(text);
            }
            Long("allow-host") => {
                let text = text_of(&mut parser, "--allow-host")?;
                let host = Authority::parse(&text).filter(|authority| authority.port.is_none());
                let Some(host) = host else {
                    return Err(format!(
                        "--allow-host {text:?} is no host name: give a name without scheme, port and path, \
                         such as agentwatch.example.com"
                    ));
                };
                config.allowed_hosts.push(host.name);
            }
            Long("stock") => config.mode = Mode::Stock,
            Long("help") | Short('h') => return Ok(Command::Print(HELP.into())),
            Long("version") | Short('V') => {
                return Ok(Command::Print(format!(
                    "agentwatch-receiver {}\n",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            Long(other) => return Err(format!("--{other} is no flag of this program: see --help")),
            Short(other) => return Err(format!("-{other} is no flag of this program: see --help")),
            Value(other) => {
                return Err(format!(
                    "{other:?} stands alone: every value follows a flag, see --help"
                ));
            }
        }
    }
    // The token is sent in headers and in a cookie, which allow visible ASCII only.
    if let Some(token) = &config.token
        && !token
            .bytes()
            .all(|b| b.is_ascii_graphic() && !b";,\"\\".contains(&b))
    {
        return Err(
            "the token holds a character that no header carries: use letters, digits and -_.~ \
                    (--token or AGENTWATCH_TOKEN)"
                .into(),
        );
    }
    Ok(Command::Serve(config))
}

fn parse_host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    text.trim_matches(['[', ']']).parse().map_err(|_| {
        format!("--host {text:?} is no IP address: give one such as 127.0.0.1 or 0.0.0.0")
    })
}

fn text_of(parser: &mut lexopt::Parser, flag: &str) -> Result<String, String> {
    let value = parser.value().map_err(|_| missing(flag))?;
    value
        .into_string()
        .map_err(|_| format!("{flag} is not valid text"))
}

fn missing(flag: &str) -> String {
    format!("{flag} needs a value after it: see --help")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Command, String> {
        parse(words.iter().map(OsString::from), None)
    }

    #[test]
    fn without_flags_it_listens_on_loopback() {
        let Ok(Command::Serve(config)) = parse_words(&[]) else {
            unreachable!("no flags are valid")
        };
        assert!(config.host.is_loopback());
        assert_eq!(
            (config.port, config.mode, config.token),
            (8470, Mode::Strict, None)
        );
    }

    #[test]
    fn an_error_names_the_flag_and_its_fix() {
        for (words, flag, mend) in [
            (vec!["--port", "70000"], "--port", "0 to 65535"),
            (vec!["--port"], "--port", "needs a value"),
            (vec!["--host", "example"], "--host", "IP address"),
            (vec!["--db", ""], "--db", ":memory:"),
            (vec!["--token", ""], "--token", "secret"),
            (vec!["--token", "a b"], "--token", "letters"),
            (
                vec!["--allow-host", "http://a.b"],
                "--allow-host",
                "without scheme",
            ),
            (vec!["--allow-host", "a.b:80"], "--allow-host", "port"),
            (vec!["--allow-host", ""], "--allow-host", "host name"),
            (vec!["--stok"], "--stok", "--help"),
            (vec!["8470"], "8470", "follows a flag"),
        ] {
            let error = parse_words(&words).unwrap_err();
            assert!(
                error.contains(flag) && error.contains(mend),
                "{words:?}: {error}"
            );
        }
    }

    #[test]
    fn the_flag_wins_over_the_environment() {
        let words = ["--token", "flag"].map(OsString::from);
        let Ok(Command::Serve(config)) = parse(words, Some("environment".into())) else {
            unreachable!("both are valid")
        };
        assert_eq!(config.token.as_deref(), Some("flag"));
    }
}
