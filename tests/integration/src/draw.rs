//! Seeded choices, so that a seed is the whole of a history.

/// A generator (xorshift, Marsaglia 2003). Its state is never 0, which it would not leave.
#[derive(Debug)]
pub struct Draw(pub u64);

impl Draw {
    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One of so many, from 0.
    pub fn below(&mut self, count: usize) -> usize {
        (self.number() % count as u64) as usize
    }
}
