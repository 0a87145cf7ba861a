//! The outlet to an OpenTelemetry collector. It reads the journal on disk, and its requests delay no other outlet.

use super::Engine;
use crate::delivery::collector::{Collector, OUTLET, Request, Target};
use crate::delivery::reply::Reply;
use crate::domain::time::Now;
use crate::engine::log::Level;
use crate::host::{Fault, Host};
use crate::journal::Foreign;
use crate::journal::log::{Kind, Position};

impl Engine {
    /// Adds the outlet to a collector, under this gateway's name. Call before the journal is opened.
    pub fn tell_collector(&mut self, target: Target, seed: u64) {
        let gateway = self.settings.naming.gateway.clone();
        self.collector = Some(Collector::new(target, gateway, seed));
        // Until the outlet has read its state, both logs are kept as a whole.
        for kind in [Kind::Calls, Kind::Records] {
            self.journal.follow(kind, OUTLET, Some(Position::default()));
        }
    }

    /// The collector's address and headers; `None` without the outlet.
    pub fn collector(&self) -> Option<&Target> {
        self.collector.as_ref().map(Collector::target)
    }

    /// Runs `work` on the outlet, if there is one and this process owns the journal. `None` after a fault, which is
    /// logged.
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

    /// Reads new entries of the journal, if a look is due.
    pub(super) fn look_for_collector(&mut self, now: Now, hurry: bool) {
        self.with_collector(now, |engine, collector, host, aside| {
            collector.look(host, &mut engine.journal, aside, now, hurry)
        });
    }

    /// The next due request to the collector; `hurry` skips gathering.
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

    /// When the outlet has work next, by the monotonic clock in ms.
    pub(super) fn next_for_collector(&self) -> Option<u64> {
        let collector = self.collector.as_ref();
        collector.filter(|_| self.disk.takes())?.next_due()
    }
}

/// Paths of files of newer versions.
type Aside = Vec<(String, Foreign)>;
