//! The children of a queue in the order of their shares: tournament trees in arrays. A change of one child costs a step per doubling
//! of their number, and the least is found from the top.

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

    /// The share that stands as far from the other end.
    fn turned(self) -> Self {
        Self { borrowed: !self.borrowed, whole: !self.whole }
    }
}

/// Shares by place, with the least of each subtree; [`Share::NONE`] stands for nobody.
#[derive(Clone, Debug)]
pub(crate) struct Tournament {
    /// Places, a power of two.
    width: usize,
    /// Least share per subtree; the root is at 1.
    least: Vec<Share>,
}

/// The best offer so far: its share with what it offers, its place, and what it offers.
type Best<T> = Option<(Share, usize, T)>;

impl Tournament {
    pub(crate) fn new(places: usize) -> Self {
        let width = places.next_power_of_two();
        Self { width, least: vec![Share::NONE; 2 * width] }
    }

    /// The least share of all.
    pub(crate) fn least(&self) -> Share {
        self.least[1]
    }

    pub(crate) fn set(&mut self, place: usize, share: Share) {
        let mut at = self.width + place;
        if self.least[at] == share {
            return;
        }
        self.least[at] = share;
        while at > 1 {
            at /= 2;
            let least = self.least[2 * at].min(self.least[2 * at + 1]);
            if self.least[at] == least {
                return;
            }
            self.least[at] = least;
        }
    }

    /// The place with the least share, the first of equals; `None` if nobody is there.
    pub(crate) fn first(&self) -> Option<usize> {
        if self.least() == Share::NONE {
            return None;
        }
        let mut at = 1;
        while at < self.width {
            at = if self.least[2 * at] <= self.least[2 * at + 1] { 2 * at } else { 2 * at + 1 };
        }
        Some(at - self.width)
    }

    /// Of the places in the mask, the one whose share *with its offer* is least, the first of equals. `offer` gives that share and
    /// the offer, or nothing. The shares kept here are bounds: no place's share with its offer is less. So whoever is
    /// bound to stand above the best offer is not asked (branch and bound).
    pub(crate) fn best<T>(&self, mask: &[u64], offer: &mut dyn FnMut(usize) -> Option<(Share, T)>) -> Option<T> {
        let mut best = None;
        self.descend(1, mask, offer, &mut best);
        best.map(|(_, _, offer)| offer)
    }

    fn descend<T>(&self, at: usize, mask: &[u64], offer: &mut dyn FnMut(usize) -> Option<(Share, T)>, best: &mut Best<T>) {
        let bound = self.least[at];
        let size = self.width >> at.ilog2();
        let first = at * size - self.width;
        if bound == Share::NONE || !any(mask, first, size) {
            return;
        }
        if let Some((share, place, _)) = best
            && (bound > *share || (bound == *share && first > *place))
        {
            return;
        }
        if size > 1 {
            let (left, right) = (2 * at, 2 * at + 1);
            let order = if self.least[right] < self.least[left] { [right, left] } else { [left, right] };
            for next in order {
                self.descend(next, mask, offer, best);
            }
            return;
        }
        if let Some((share, offered)) = offer(first)
            && best.as_ref().is_none_or(|(known, at, _)| (share, first) < (*known, *at))
        {
            *best = Some((share, first, offered));
        }
    }
}

/// Whether one of `size` bits from `first` on is set. The size is a power of two and divides the first.
fn any(mask: &[u64], first: usize, size: usize) -> bool {
    let (word, bit) = (first / 64, first % 64);
    if size < 64 {
        return mask.get(word).is_some_and(|bits| bits >> bit & ((1 << size) - 1) != 0);
    }
    mask.iter().skip(word).take(size / 64).any(|bits| *bits != 0)
}

/// Who of the children asks, and the greatest share of one.
#[derive(Clone, Debug)]
pub(crate) struct Ranking {
    /// Shares from the other end.
    turned: Tournament,
    asking: Vec<bool>,
    ask: usize,
}

impl Ranking {
    pub(crate) fn new(places: usize) -> Self {
        Self { turned: Tournament::new(places), asking: vec![false; places], ask: 0 }
    }

    /// Whether anybody asks.
    pub(crate) fn asks(&self) -> bool {
        self.ask > 0
    }

    /// The greatest share.
    pub(crate) fn greatest(&self) -> Share {
        self.turned.least().turned()
    }

    /// Sets the share of one place and whether it has anything to ask for.
    pub(crate) fn set(&mut self, place: usize, share: Share, asks: bool) {
        let asked = std::mem::replace(&mut self.asking[place], asks);
        self.ask = self.ask + usize::from(asks) - usize::from(asked);
        self.turned.set(place, share.turned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(whole: u64) -> Share {
        Share { borrowed: 0, whole }
    }

    #[test]
    fn the_best_offer_of_the_mask_is_found_whatever_the_bounds_are() {
        let mut state = 7_u64;
        let mut roll = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for places in [1, 2, 5, 25, 64, 65, 200] {
            let mut tree = Tournament::new(places);
            for _ in 0..50 {
                let bounds: Vec<u64> = (0..places).map(|_| roll(10)).collect();
                let offers: Vec<Option<u64>> = bounds.iter().map(|bound| Some(bound + roll(6)).filter(|_| *bound != 3)).collect();
                let mask: Vec<u64> = (0..places.div_ceil(64)).map(|_| roll(u64::MAX) << 20 | roll(1 << 20)).collect();
                for (place, bound) in bounds.iter().enumerate() {
                    tree.set(place, share(*bound));
                }
                let plain = (0..places).filter(|place| mask[place / 64] >> (place % 64) & 1 == 1);
                let plain = plain.filter_map(|place| Some((offers[place]?, place))).min().map(|(_, place)| place);
                assert_eq!(tree.best(&mask, &mut |place| Some((share(offers[place]?), place))), plain);
                let first = bounds.iter().enumerate().min_by_key(|(place, bound)| (**bound, *place)).map(|(place, _)| place);
                assert_eq!(tree.first(), first);
            }
        }
    }

    #[test]
    fn the_greatest_share_is_known_and_whether_anybody_asks() {
        let mut ranking = Ranking::new(3);
        assert_eq!((ranking.greatest(), ranking.asks()), (Share::ZERO, false));
        ranking.set(0, share(4), true);
        ranking.set(2, share(9), false);
        assert_eq!((ranking.greatest(), ranking.asks()), (share(9), true));
        ranking.set(2, share(1), false);
        ranking.set(0, share(4), false);
        assert_eq!((ranking.greatest(), ranking.asks()), (share(4), false));
    }
}
