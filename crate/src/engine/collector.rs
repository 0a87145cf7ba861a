//! The outlet to a collector, beside the others: it reads what is on disk, and its requests hold up nobody.

use super::Engine;
use crate::delivery::collector::{Collector, Request, Target};
use crate::delivery::reply::Reply;
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::host::{Fault, Host};
use crate::journal::Foreign;
use crate::journal::log::{Kind, Position};

impl Engine {
    /// A collector is told too, under this gateway's name. Call before the journal is opened.
    pub fn tell_collector(&mut self, target: Target, gateway: String, seed: u64) {
        self.collector = Some(Collector::new(target, gateway, seed));
        // Until it says how far it is, it needs all of both.
        for kind in [Kind::Calls, Kind::Records] {
            self.journal.follow(kind, Some(Position::default()));
        }
    }

    /// Where the collector is.
    pub fn collector(&self) -> Option<&Target> {
        self.collector.as_ref().map(Collector::target)
    }

    /// Does something with the collector's outlet, where this process owns the journal and can read it.
    fn with_collector<T>(
        &mut self,
        now: Now,
        work: impl FnOnce(&mut Self, &mut Collector, &dyn Host, &mut Aside) -> Result<T, Fault>,
    ) -> Option<T> {
        if !self.disk.takes() || self.is_lost() {
            return None;
        }
        let host = self.disk.host.clone()?;
        let mut collector = self.collector.take()?;
        let mut aside = Aside::new();
        let done = work(self, &mut collector, &*host, &mut aside);
        self.collector = Some(collector);
        for (path, foreign) in aside {
            self.keep_aside(path, foreign, now);
        }
        match done {
            Ok(done) => Some(done),
            Err(fault) => {
                if let Some(collector) = &mut self.collector {
                    collector.rest(now.mono_ms);
                }
                let text = format!("otlp: {fault}; tried again");
                self.log.add(Level::Warn, text, now.mono_ms);
                None
            }
        }
    }

    /// Reads what is new in the journal, where that is due.
    pub(super) fn look_for_collector(&mut self, now: Now, hurry: bool) {
        self.with_collector(now, |engine, collector, host, aside| {
            collector.look(host, &mut engine.journal, aside, now, hurry)
        });
    }

    /// The next request to the collector, if any is due; `hurry` tells at once what is on disk.
    pub fn begin_collector(&mut self, now: Now, hurry: bool) -> Option<Request> {
        if hurry {
            self.look_for_collector(now, true);
        }
        self.with_collector(now, |engine, collector, host, aside| {
            collector.begin(host, &mut engine.journal, aside, now, hurry)
        })?
    }

    /// Takes the reply to the last request to the collector.
    pub fn answered_collector(&mut self, reply: &Reply, now: Now) {
        if let Some(collector) = &mut self.collector {
            collector.answered(reply, &mut self.log, now);
        }
    }

    /// When the collector's outlet has something to do.
    pub(super) fn next_for_collector(&self) -> Option<u64> {
        let collector = self.collector.as_ref();
        collector.filter(|_| self.disk.takes())?.next_due()
    }
}

/// Files of newer versions that were found.
type Aside = Vec<(String, Foreign)>;
