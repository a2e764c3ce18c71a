//! Who may speak: what runs side by side is shown one after the other, so that no test's output stands in another's.

use std::cell::RefCell;

/// The first of the speakers that has not left is heard at once; what others say is kept until it is their turn.
pub struct Floor {
    speakers: RefCell<Speakers>,
    show: fn(&str),
}

#[derive(Default)]
struct Speakers {
    turn: usize,
    kept: Vec<Vec<String>>,
    left: Vec<bool>,
}

impl Floor {
    /// For as many speakers; what they say goes to the standard output.
    pub fn new(speakers: usize) -> Self {
        Self::shown(speakers, |line| println!("{line}"))
    }

    fn shown(speakers: usize, show: fn(&str)) -> Self {
        let speakers = Speakers { turn: 0, kept: vec![Vec::new(); speakers], left: vec![false; speakers] };
        Self { speakers: RefCell::new(speakers), show }
    }

    /// A speaker, counted from 0, says a line.
    pub fn say(&self, speaker: usize, line: &str) {
        let mut speakers = self.speakers.borrow_mut();
        match speakers.turn == speaker {
            true => (self.show)(line),
            false => speakers.kept[speaker].push(line.to_owned()),
        }
    }

    /// A speaker has said everything.
    pub fn leave(&self, speaker: usize) {
        let mut speakers = self.speakers.borrow_mut();
        speakers.left[speaker] = true;
        while speakers.left.get(speakers.turn) == Some(&true) {
            speakers.turn += 1;
            let turn = speakers.turn;
            let kept = speakers.kept.get_mut(turn).map(std::mem::take).unwrap_or_default();
            kept.iter().for_each(|line| (self.show)(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::Floor;

    thread_local! {
        static SHOWN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    fn shown() -> String {
        SHOWN.with_borrow(|lines| lines.join(" "))
    }

    #[test]
    fn one_speaks_after_the_other() {
        let floor = Floor::shown(3, |line| SHOWN.with_borrow_mut(|lines| lines.push(line.to_owned())));
        floor.say(1, "b1");
        floor.say(0, "a1");
        floor.say(2, "c1");
        floor.leave(2);
        assert_eq!(shown(), "a1");
        floor.leave(0);
        assert_eq!(shown(), "a1 b1");
        floor.say(1, "b2");
        floor.leave(1);
        assert_eq!(shown(), "a1 b1 b2 c1");
    }
}
