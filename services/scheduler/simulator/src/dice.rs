//! Numbers that look random and are the same on every machine.

/// SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number generators*, OOPSLA 2014).
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `sides` − 1; `sides` is small beside 2⁶⁴, so that the remainder favours nobody noticeably.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.bits() % sides
    }

    /// From 0 to 1, without 1.
    pub fn part(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How long it takes until the next of events that come once in a unit of time on the mean, independently of each other.
    pub fn waits(&mut self) -> f64 {
        -(1.0 - self.part()).ln()
    }
}
