//! Keeps the log of a trouble that lasts short: its beginning, a line each 30 s, and its end. It logs nothing itself.

use crate::core::{Ns, NS_PER_S};

/// A trouble that lasts is logged again after this.
const AGAIN_NS: Ns = 30 * NS_PER_S;

/// One kind of trouble.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// When it began, and when it was logged last.
    at_ns: Option<(Ns, Ns)>,
}

impl Trouble {
    /// It happens. Returns for how long it has, if that is to be logged now.
    pub fn note(&mut self, now_ns: Ns) -> Option<Ns> {
        let Some((since_ns, logged_ns)) = self.at_ns else {
            self.at_ns = Some((now_ns, now_ns));
            return Some(0);
        };
        (now_ns >= logged_ns + AGAIN_NS).then(|| {
            self.at_ns = Some((since_ns, now_ns));
            now_ns - since_ns
        })
    }

    /// It is over. Returns how long it lasted, if it was there.
    pub fn over(&mut self, now_ns: Ns) -> Option<Ns> {
        self.at_ns.take().map(|(since_ns, _)| now_ns - since_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::{Trouble, NS_PER_S};

    #[test]
    fn it_is_logged_at_its_beginning_each_30_s_and_at_its_end() {
        let mut trouble = Trouble::default();
        let mut logged_s = Vec::new();
        for second in 5..100 {
            if let Some(lasted_ns) = trouble.note(second * NS_PER_S) {
                logged_s.push(lasted_ns / NS_PER_S);
            }
        }
        assert_eq!(logged_s, [0, 30, 60, 90]);
        assert_eq!(trouble.over(100 * NS_PER_S), Some(95 * NS_PER_S));
        assert_eq!(trouble.over(101 * NS_PER_S), None);
        assert_eq!(trouble.note(102 * NS_PER_S), Some(0));
    }
}
