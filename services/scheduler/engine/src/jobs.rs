//! The jobs, found by row number in one step. Only look-ups go through the hash table; whoever needs an order sorts.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};

use crate::engine::Job;
use crate::event::JobId;

/// Hashes of names, the same in every process. Only look-ups go through such tables, so that no order comes from them.
pub(crate) type Hashing = BuildHasherDefault<DefaultHasher>;
/// Hashes of numbers.
pub(crate) type NumberHashing = BuildHasherDefault<RowHasher>;

/// A hasher for row numbers that is the same in every process (finaliser of SplitMix64: Steele, Lea, Flood, OOPSLA 2014).
#[derive(Clone, Debug, Default)]
pub(crate) struct RowHasher(u64);

impl Hasher for RowHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_i32(&mut self, value: i32) {
        self.write_u32(value.cast_unsigned());
    }

    fn write_i64(&mut self, value: i64) {
        self.write_u64(value.cast_unsigned());
    }

    fn write_u64(&mut self, value: u64) {
        let mut mixed = (self.0 ^ value).wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        self.0 = mixed ^ (mixed >> 31);
    }
}

/// All unfinished jobs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Jobs {
    places: HashMap<u64, u32, NumberHashing>,
    all: Vec<Option<Job>>,
    unused: Vec<u32>,
}

impl Jobs {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn contains(&self, id: JobId) -> bool {
        self.places.contains_key(&id.0)
    }

    pub(crate) fn get(&self, id: JobId) -> Option<&Job> {
        self.all[*self.places.get(&id.0)? as usize].as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.all[*self.places.get(&id.0)? as usize].as_mut()
    }

    /// A job that is in some set of the engine, which holds known jobs only.
    pub(crate) fn held(&self, id: JobId) -> &Job {
        self.get(id).expect("the engine's sets hold known jobs")
    }

    /// A job that is in some set of the engine, which holds known jobs only.
    pub(crate) fn held_mut(&mut self, id: JobId) -> &mut Job {
        self.get_mut(id).expect("the engine's sets hold known jobs")
    }

    pub(crate) fn insert(&mut self, job: Job) {
        let id = job.id;
        let place = match self.unused.pop() {
            Some(place) => {
                self.all[place as usize] = Some(job);
                place
            }
            None => {
                self.all.push(Some(job));
                u32::try_from(self.all.len() - 1).expect("fewer than 2^32 jobs are unfinished")
            }
        };
        self.places.insert(id.0, place);
    }

    pub(crate) fn remove(&mut self, id: JobId) -> Option<Job> {
        let place = self.places.remove(&id.0)?;
        self.unused.push(place);
        self.all[place as usize].take()
    }

    /// Every job, by row.
    pub(crate) fn by_row(&self) -> Vec<&Job> {
        let mut jobs: Vec<&Job> = self.all.iter().flatten().collect();
        jobs.sort_unstable_by_key(|job| job.id);
        jobs
    }
}
