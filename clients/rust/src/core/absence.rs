//! Decides when to look for coordinators after NATS has reported that none is connected. It neither sends nor waits.
//!
//! Unanswered requests back off to a minute. One small message of the whole process to `info`, every second or two,
//! finds a coordinator that is connected again. Then all requests of the process renew.

use super::{between, Jitter, Ns, NS_PER_S};

/// The longest pause between two probes; the shortest is half of it, so that a fleet does not probe in step.
const PROBE_NS: Ns = 2 * NS_PER_S;

/// The pause doubles up to this while probes are answered and requests are not.
const PROBE_MAX_NS: Ns = 60 * NS_PER_S;

/// Whether NATS reports that no coordinator is connected, and when to probe.
#[derive(Debug)]
pub struct Absence {
    probe_at_ns: Option<Ns>,
    pause_ns: Ns,
    jitter: Jitter,
}

impl Absence {
    /// Begins with nothing absent.
    #[must_use]
    pub fn new(jitter: Jitter) -> Self {
        Self { probe_at_ns: None, pause_ns: PROBE_NS, jitter }
    }

    /// When the next probe is sent; `None` while none is needed.
    #[must_use]
    pub fn probe_at_ns(&self) -> Option<Ns> {
        self.probe_at_ns
    }

    /// NATS replied 503 to a request or a probe.
    pub fn no_responders(&mut self, now_ns: Ns) {
        if self.probe_at_ns.is_none() {
            self.schedule(now_ns);
        }
    }

    /// Returns whether to send a probe now; the next one is scheduled.
    pub fn is_due(&mut self, now_ns: Ns) -> bool {
        let is_due = self.probe_at_ns.is_some_and(|at_ns| now_ns >= at_ns);
        if is_due {
            self.schedule(now_ns);
        }
        is_due
    }

    /// A coordinator replied to a probe. Returns whether that ends an absence: all requests renew.
    pub fn probe_answered(&mut self) -> bool {
        let is_over = self.probe_at_ns.take().is_some();
        if is_over {
            self.pause_ns = (2 * self.pause_ns).min(PROBE_MAX_NS);
        }
        is_over
    }

    /// A coordinator replied to a request. Returns whether that ends an absence: all requests renew.
    pub fn request_answered(&mut self) -> bool {
        self.pause_ns = PROBE_NS;
        self.probe_at_ns.take().is_some()
    }

    fn schedule(&mut self, now_ns: Ns) {
        self.probe_at_ns = Some(now_ns + between(self.pause_ns / 2, self.pause_ns, self.jitter));
    }
}

#[cfg(test)]
mod tests {
    use super::{Absence, NS_PER_S};

    #[test]
    fn probes_go_on_until_one_is_answered() {
        let mut absence = Absence::new(|| 0.0);
        assert!(!absence.is_due(0));
        absence.no_responders(0);
        absence.no_responders(NS_PER_S / 2);
        assert!(!absence.is_due(NS_PER_S - 1));
        assert!(absence.is_due(NS_PER_S));
        assert!(!absence.is_due(NS_PER_S));
        assert!(absence.is_due(2 * NS_PER_S));
        assert!(absence.probe_answered());
        assert!(!absence.probe_answered());
        assert_eq!(absence.probe_at_ns(), None);
    }

    #[test]
    fn the_pause_doubles_while_probes_are_answered_and_requests_are_not() {
        let mut absence = Absence::new(|| 0.0);
        let mut pauses_s = Vec::new();
        for _ in 0..8 {
            absence.no_responders(0);
            pauses_s.push(absence.probe_at_ns().expect("it probes") / NS_PER_S);
            absence.probe_answered();
        }
        assert_eq!(pauses_s, [1, 2, 4, 8, 16, 30, 30, 30]);
        absence.no_responders(0);
        assert!(absence.request_answered());
        absence.no_responders(0);
        assert_eq!(absence.probe_at_ns(), Some(NS_PER_S));
    }
}
