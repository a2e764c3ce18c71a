//! The children of a queue in the order in which they are asked: a tournament tree over their shares, in two arrays. A change of
//! one child costs a step per doubling of their number, and the least and the greatest are found from the top.

/// Where a queue stands among its siblings: what it has *beyond its guarantee*, then what it has in all, as weighted dominant
/// shares. Shares are kept as their bits: for numbers that are not negative the order of the bits is the order of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share {
    pub(crate) borrowed: u64,
    pub(crate) whole: u64,
}

impl Share {
    /// Greater than any share.
    pub(crate) const NONE: Self = Self { borrowed: u64::MAX, whole: u64::MAX };
    /// The share of who has nothing.
    pub(crate) const ZERO: Self = Self { borrowed: 0, whole: 0 };

    pub(crate) fn of(borrowed: f64, whole: f64) -> Self {
        Self { borrowed: borrowed.to_bits(), whole: whole.to_bits() }
    }
}

/// Shares by place.
#[derive(Clone, Debug)]
pub(crate) struct Ranking {
    /// Places, a power of two.
    width: usize,
    /// Least share of those that ask, per subtree; the root is at 1.
    least: Vec<Share>,
    /// Greatest share of those that have something, per subtree.
    most: Vec<Share>,
}

/// The best offer so far: its share with what it offers, its place, and what it offers.
type Best<T> = Option<(Share, usize, T)>;

impl Ranking {
    pub(crate) fn new(places: usize) -> Self {
        let width = places.next_power_of_two();
        Self { width, least: vec![Share::NONE; 2 * width], most: vec![Share::ZERO; 2 * width] }
    }

    /// Whether anybody asks.
    pub(crate) fn asks(&self) -> bool {
        self.least[1] != Share::NONE
    }

    /// The greatest share of one that has something.
    pub(crate) fn greatest(&self) -> Share {
        self.most[1]
    }

    /// Sets the share of one place; `asks` says whether it takes part in the order of asking.
    pub(crate) fn set(&mut self, place: usize, share: Share, asks: bool) {
        let mut at = self.width + place;
        let least = if asks { share } else { Share::NONE };
        if self.least[at] == least && self.most[at] == share {
            return;
        }
        (self.least[at], self.most[at]) = (least, share);
        while at > 1 {
            at /= 2;
            let least = self.least[2 * at].min(self.least[2 * at + 1]);
            let most = self.most[2 * at].max(self.most[2 * at + 1]);
            if self.least[at] == least && self.most[at] == most {
                return;
            }
            (self.least[at], self.most[at]) = (least, most);
        }
    }

    /// The place whose share *with its offer* is least, the first of equals. `offer` gives that share and the offer, or nothing. A
    /// share only grows by an offer, so whoever stands above the best offer without one is not asked (branch and bound).
    pub(crate) fn best<T>(&self, offer: &mut dyn FnMut(usize) -> Option<(Share, T)>) -> Option<T> {
        let mut best = None;
        self.descend(1, offer, &mut best);
        best.map(|(_, _, offer)| offer)
    }

    fn descend<T>(&self, at: usize, offer: &mut dyn FnMut(usize) -> Option<(Share, T)>, best: &mut Best<T>) {
        let bound = self.least[at];
        if bound == Share::NONE {
            return;
        }
        if let Some((share, place, _)) = best {
            let first = (at << (self.width.ilog2() - at.ilog2())) - self.width;
            if bound > *share || (bound == *share && first > *place) {
                return;
            }
        }
        if at < self.width {
            let (left, right) = (2 * at, 2 * at + 1);
            let order = if self.least[right] < self.least[left] { [right, left] } else { [left, right] };
            for next in order {
                self.descend(next, offer, best);
            }
            return;
        }
        let place = at - self.width;
        if let Some((share, offered)) = offer(place)
            && best.as_ref().is_none_or(|(known, at, _)| (share, place) < (*known, *at))
        {
            *best = Some((share, place, offered));
        }
    }
}
