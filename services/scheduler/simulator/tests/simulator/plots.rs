//! What is drawn of a play.

use crate::trace::Trace;
use muster_scheduler_engine::TierOpens;
use muster_scheduler_simulator::play::{Fleet, play_recorded};
use muster_scheduler_simulator::plot::plots;

fn drawn() -> Vec<(&'static str, String)> {
    let trace = Trace::of_jobs(&[(0, 7200, 8, "a"), (1, 5400, 8, "b <&> c"), (200, 60, 4, "a")]);
    let workload = trace.read().unwrap();
    let fleet = Fleet { own: 1, dear: Some((4, TierOpens::AfterWaitingForWork { permille: 50 })) };
    let stage = fleet.stage(&workload, &[1, 1]);
    let (_, timeline) = play_recorded(&workload, &stage, &mut |_| {}).unwrap();
    plots(&workload, &stage, &timeline).into_iter().map(|plot| (plot.name, plot.svg())).collect()
}

/// The tags of a document without comments and the like are nested properly, its attributes quoted and its entities known.
fn check(text: &str) {
    let (mut open, mut rest, mut roots) = (Vec::new(), text.trim_end(), 0);
    while let Some(start) = rest.find('<') {
        let (between, tail) = rest.split_at(start);
        assert!(!open.is_empty() || between.is_empty(), "text outside of the root");
        assert!(between.split('&').skip(1).all(|entity| ["amp;", "lt;", "gt;"].iter().any(|known| entity.starts_with(known))));
        let end = tail.find('>').expect("each tag ends");
        let tag = &tail[1..end];
        assert!(tag.matches('"').count() % 2 == 0 && !tag.contains(['<', '&']), "{tag}");
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap().to_owned();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name));
        } else {
            roots += usize::from(open.is_empty());
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        rest = &tail[end + 1..];
    }
    assert!(open.is_empty() && rest.is_empty() && roots == 1);
}

#[test]
fn plots_are_well_formed_and_the_same_each_time() {
    let first = drawn();
    assert_eq!(first.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["utilisation", "waiting", "cost", "share"]);
    for (_, svg) in &first {
        check(svg);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
    assert!(first[3].1.contains("b &lt;&amp;&gt; c"));
    assert_eq!(first, drawn());
}
