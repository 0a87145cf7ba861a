//! Places of a gateway's sessions: a folder for each agent in the state directory, and the store that `session.store`
//! of the configuration names, resolved as OpenClaw does:
//!
//! - `{agentId}` stands for an agent's id: there is a store for each agent that is found.
//! - `<folder>/sessions.json`: transcripts are in that folder. OpenClaw 2026.8 and later store them in
//!   `openclaw-agent.sqlite` there, or, if the folder is `agents/<agent>/sessions`, in the agent's own place.
//! - `<folder>/<name>.json`: transcripts are in that folder. OpenClaw 2026.8 and later store them in `<name>.sqlite`
//!   there.
//! - `<folder>/<name>.sqlite`: the database. `agents/<agent>/agent/openclaw-agent.sqlite` is in the agent's own place.
//!
//! Several agents may share a store. From 2026.8 on each further agent has a database beside the first one,
//! `<name>.<agent>.sqlite`, or its sessions are in the shared database under its own keys.

use std::collections::HashMap;

use serde::Deserialize;

use crate::host::Fault;

use super::bookmark::short_hash;
use super::host::StoreHost;
use super::keys::Index;

/// The store in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SessionStore {
    /// `session.store`, an absolute path; may contain `{agentId}`.
    pub path: String,
    /// Agent of sessions without an agent (`agents.defaults.sessionStore.agentId`, else the default agent).
    pub owner: Option<String>,
}

/// A place with sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorePlace {
    /// Prefix of its sessions' bookmark names: the agent's id, or `~` and a hash of the path.
    pub name: String,
    /// Agent of sessions without an agent.
    pub agent: String,
    /// Folder of transcript files.
    pub folder: Option<String>,
    /// Folder of files whose rows were moved into the database.
    pub archive: Option<String>,
    /// Index files of session keys, in stores that agents share.
    pub indexes: Vec<Index>,
    /// All agents of the gateway, in a store that they may share; `None` for an agent's own place.
    pub sharers: Option<Vec<String>>,
    /// The database's path.
    pub database: Option<String>,
}

const AGENT_ID: &str = "{agentId}";
const DATABASE: &str = "openclaw-agent";
const INDEX: &str = "sessions.json";
const ARCHIVE: &str = "session-sqlite-import-archive";
/// Default agent of sessions without an agent in a shared store.
const MAIN: &str = "main";

/// All places of a gateway, without duplicates: the configuration may name an agent's default place, and agents may
/// share a folder.
///
/// # Errors
/// If a folder of stores cannot be listed.
pub fn store_places(
    host: &dyn StoreHost,
    state_dir: &str,
    store: Option<&SessionStore>,
) -> Result<Vec<StorePlace>, Fault> {
    let agents = join(state_dir, "agents");
    let mut found = Vec::new();
    for name in sorted_names(host, &agents)? {
        let place = place_of_agent(&join(&agents, &name));
        found.push(StorePlace { name, ..place });
    }
    if let Some(store) = store {
        let is_shared = !store.path.contains(AGENT_ID);
        for (path, agent) in expand(host, store)? {
            found.extend(places_of(host, &path, &agent, is_shared)?);
        }
    }
    let mut places = each_once(host, found);
    let agents: Vec<String> = places.iter().map(|place| place.agent.clone()).collect();
    for sharers in places.iter_mut().filter_map(|place| place.sharers.as_mut()) {
        sharers.clone_from(&agents);
    }
    Ok(places)
}

/// Whether the store in the configuration exists.
///
/// # Errors
/// If a folder of stores cannot be listed.
pub fn has_store(
    host: &dyn StoreHost,
    state_dir: &str,
    store: &SessionStore,
) -> Result<bool, Fault> {
    let places = store_places(host, state_dir, Some(store))?;
    let mut named = places.iter().filter(|place| place.name.starts_with('~'));
    let is_there = |path: &Option<String>| {
        let path = path.as_deref();
        path.is_some_and(|path| host.real_path(path).is_some())
    };
    Ok(named.any(|place| is_there(&place.folder) || is_there(&place.database)))
}

fn each_once(host: &dyn StoreHost, found: Vec<StorePlace>) -> Vec<StorePlace> {
    let mut places: Vec<StorePlace> = Vec::new();
    // Index of the place that owns a path, by real path.
    let mut taken: HashMap<String, usize> = HashMap::new();
    for mut place in found {
        let own = places.len();
        let mut take = |path: &mut Option<String>| {
            let given = path.as_deref()?;
            let real = host.real_path(given).unwrap_or_else(|| given.to_owned());
            let owner = *taken.entry(real).or_insert(own);
            if owner == own {
                return None;
            }
            *path = None;
            Some(owner)
        };
        let shares = take(&mut place.folder);
        take(&mut place.archive);
        take(&mut place.database);
        if let Some(owner) = shares.and_then(|owner| places.get_mut(owner)) {
            owner.indexes.extend(place.indexes.iter().cloned());
            owner.sharers = owner.sharers.take().or(place.sharers.clone());
        }
        if place.folder.is_some() || place.archive.is_some() || place.database.is_some() {
            places.push(place);
        }
    }
    places
}

/// The place of an agent's own folder.
fn place_of_agent(path: &str) -> StorePlace {
    StorePlace {
        name: name_of(path),
        agent: base_name(path).to_owned(),
        folder: Some(join(path, "sessions")),
        archive: Some(join(path, ARCHIVE)),
        indexes: Vec::new(),
        sharers: None,
        database: Some(join(path, &format!("agent/{DATABASE}.sqlite"))),
    }
}

/// The places of a store. `is_shared`: the path is the same for all agents.
fn places_of(
    host: &dyn StoreHost,
    path: &str,
    agent: &str,
    is_shared: bool,
) -> Result<Vec<StorePlace>, Fault> {
    let folder = folder_of(path);
    let owner = folder_of(folder);
    let is_index = base_name(path) == INDEX;
    let is_agents = base_name(folder_of(owner)) == "agents";
    if is_index && is_agents && base_name(folder) == "sessions" {
        let mut place = place_of_agent(owner);
        if is_shared {
            place.indexes.push(Index {
                path: path.to_owned(),
                agent: place.agent.clone(),
            });
            place.sharers = Some(Vec::new());
        }
        return Ok(vec![place]);
    }
    let is_of_agent = base_name(folder) == "agent" && stem_of(base_name(path)) == DATABASE;
    if is_agents && is_of_agent && path.ends_with(".sqlite") {
        return Ok(vec![place_of_agent(owner)]);
    }
    let stem = if is_index {
        DATABASE
    } else {
        stem_of(base_name(path))
    };
    let is_database = path.ends_with(".sqlite");
    let mut places = vec![StorePlace {
        name: name_of(path),
        agent: agent.to_owned(),
        folder: Some(folder.to_owned()),
        archive: Some(join(owner, ARCHIVE)),
        indexes: if is_database {
            Vec::new()
        } else {
            vec![Index {
                path: path.to_owned(),
                agent: agent.to_owned(),
            }]
        },
        sharers: Some(Vec::new()),
        database: Some(join(folder, &format!("{stem}.sqlite"))),
    }];
    if !is_database {
        places.extend(databases_beside(host, folder, stem)?);
    }
    Ok(places)
}

/// The databases `<stem>.<agent>.sqlite` of further agents in a shared store.
fn databases_beside(
    host: &dyn StoreHost,
    folder: &str,
    stem: &str,
) -> Result<Vec<StorePlace>, Fault> {
    let names = sorted_names(host, folder)?;
    let place = |name: &String| {
        let rest = name.strip_prefix(stem)?.strip_prefix('.')?;
        let agent = rest.strip_suffix(".sqlite")?.split('.').next()?;
        let database = join(folder, name);
        Some(StorePlace {
            name: name_of(&database),
            agent: agent.to_owned(),
            database: Some(database),
            ..StorePlace::default()
        })
    };
    Ok(names.iter().filter_map(place).collect())
}

/// The stores of a path, each with its agent: one store, or with `{agentId}` one for each agent that is found.
fn expand(host: &dyn StoreHost, store: &SessionStore) -> Result<Vec<(String, String)>, Fault> {
    let path = &store.path;
    let Some(at) = path.find(AGENT_ID) else {
        let owner = store.owner.as_deref().unwrap_or(MAIN);
        return Ok(vec![(path.clone(), owner.to_owned())]);
    };
    let begins = path[..at].rfind('/').map_or(0, |slash| slash + 1);
    let ends = path[at..].find('/').map(|slash| at + slash);
    let part = &path[begins..ends.unwrap_or(path.len())];
    let folder = path[..begins].trim_end_matches('/');
    let mut stores: Vec<(String, String)> = Vec::new();
    for name in sorted_names(host, if folder.is_empty() { "/" } else { folder })? {
        let agent = match ends {
            Some(_) => agent_in(&name, part),
            // The named file may not exist: newer gateways have only databases beside it.
            None => stems(&name).find_map(|stem| agent_in(stem, stem_of(part))),
        };
        let Some(agent) = agent else { continue };
        let store = (path.replace(AGENT_ID, agent), agent.to_owned());
        if !stores.contains(&store) {
            stores.push(store);
        }
    }
    Ok(stores)
}

/// The agent whose id makes the pattern equal to the name.
fn agent_in<'a>(name: &'a str, pattern: &str) -> Option<&'a str> {
    let count = pattern.matches(AGENT_ID).count();
    let literal = pattern.len() - count * AGENT_ID.len();
    let length = name.len().checked_sub(literal)? / count.max(1);
    let before = pattern.find(AGENT_ID)?;
    let agent = name.get(before..before + length)?;
    let is_id = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let is_agent = !agent.is_empty() && agent.chars().all(is_id);
    (is_agent && pattern.replace(AGENT_ID, agent) == name).then_some(agent)
}

/// The possible stems of a store's file name: `<stem>.json`, `<stem>.sqlite`, `<stem>.<agent>[.<number>].sqlite`.
fn stems(name: &str) -> impl Iterator<Item = &str> {
    let (json, sqlite) = (name.strip_suffix(".json"), name.strip_suffix(".sqlite"));
    let agent = sqlite.and_then(|stem| stem.rsplit_once('.'));
    let numbered = agent.and_then(|(stem, number)| {
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        stem.rsplit_once('.').filter(|_| is_number)
    });
    let shorter = [agent, numbered].map(|found| found.map(|(stem, _)| stem));
    [json, sqlite].into_iter().chain(shorter).flatten()
}

fn sorted_names(host: &dyn StoreHost, folder: &str) -> Result<Vec<String>, Fault> {
    let mut names = host.names(folder)?;
    names.sort_unstable();
    Ok(names)
}

fn name_of(path: &str) -> String {
    format!("~{}", short_hash(path.as_bytes(), 10))
}

fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

fn folder_of(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((folder, _)) => folder,
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn stem_of(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_finds_its_agent() {
        for (name, pattern, agent) in [
            ("ant", "{agentId}", Some("ant")),
            (
                "store-ant",
                "store-{agentId}",
                Some("store-ant".split_at(6).1),
            ),
            ("ant-x-ant", "{agentId}-x-{agentId}", Some("ant")),
            ("ant-x-bee", "{agentId}-x-{agentId}", None),
            ("store-", "store-{agentId}", None),
            ("store-a.b", "store-{agentId}", None),
            ("store-ü", "store-{agentId}", None),
            ("🦀", "x{agentId}", None),
        ] {
            assert_eq!(agent_in(name, pattern), agent, "{name}");
        }
    }

    #[test]
    fn a_store_may_be_there_under_several_endings() {
        let found = |name| stems(name).collect::<Vec<_>>();
        assert_eq!(found("ant.json"), ["ant"]);
        assert_eq!(found("ant.sqlite"), ["ant"]);
        assert_eq!(found("ant.bee.sqlite"), ["ant.bee", "ant"]);
        assert_eq!(found("ant.bee.2.sqlite"), ["ant.bee.2", "ant.bee", "ant"]);
        assert!(found("ant.sqlite-wal").is_empty());
    }
}
