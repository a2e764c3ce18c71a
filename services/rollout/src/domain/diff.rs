//! What a release would change at a target: objects added, changed and removed, with a unified diff of their YAML.

use serde_json::Value;

/// Lines beyond which a change is shown as a replacement of the whole object: the comparison is quadratic.
const MAX_LINES: usize = 2_000;
/// Unchanged lines shown around a change.
const CONTEXT: usize = 3;

/// The difference of two object lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Difference {
    /// `Kind namespace/name` of what appears.
    pub added: Vec<String>,
    /// What changes, with a unified diff.
    pub changed: Vec<(String, String)>,
    /// What goes.
    pub removed: Vec<String>,
}

/// `Kind namespace/name`, or `Kind name` without a namespace.
pub fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match text(&object["metadata"]["namespace"]) {
        namespace if namespace.is_empty() => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    }
}

/// What turns `before` into `after`.
pub fn difference(before: &[Value], after: &[Value]) -> Difference {
    let mut difference = Difference::default();
    for object in after {
        let title = title(object);
        match before.iter().find(|known| self::title(known) == title && known["apiVersion"] == object["apiVersion"]) {
            None => difference.added.push(title),
            Some(known) if known != object => difference.changed.push((title, unified(&yaml(known), &yaml(object)))),
            Some(_) => {}
        }
    }
    difference.removed = before
        .iter()
        .filter(|object| !after.iter().any(|kept| title(kept) == title(object) && kept["apiVersion"] == object["apiVersion"]))
        .map(title)
        .collect();
    difference
}

fn yaml(object: &Value) -> String {
    serde_saphyr::to_string(object).unwrap_or_else(|_| format!("{object:#}"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edit {
    Keep,
    Remove,
    Add,
}

/// A unified diff with three lines of context, as `diff -u` prints its hunks.
fn unified(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let edits = edits(&old, &new);
    let mut text = String::new();
    let mut start = 0;
    while let Some(first) = (start..edits.len()).find(|index| edits[*index].0 != Edit::Keep) {
        let from = first.saturating_sub(CONTEXT).max(start);
        let mut to = first;
        let mut quiet = 0;
        for (index, (edit, _)) in edits.iter().enumerate().skip(first) {
            if *edit == Edit::Keep {
                quiet += 1;
                if quiet > 2 * CONTEXT {
                    break;
                }
            } else {
                quiet = 0;
                to = index;
            }
        }
        let end = (to + 1 + CONTEXT).min(edits.len());
        let count = |wanted: Edit, range: &[(Edit, &str)]| range.iter().filter(|(edit, _)| *edit != wanted).count();
        let (old_line, new_line) = (count(Edit::Add, &edits[..from]) + 1, count(Edit::Remove, &edits[..from]) + 1);
        let (old_count, new_count) = (count(Edit::Add, &edits[from..end]), count(Edit::Remove, &edits[from..end]));
        text.push_str(&format!("@@ -{old_line},{old_count} +{new_line},{new_count} @@\n"));
        for (edit, line) in &edits[from..end] {
            let sign = match edit {
                Edit::Keep => ' ',
                Edit::Remove => '-',
                Edit::Add => '+',
            };
            text.push_str(&format!("{sign}{line}\n"));
        }
        start = end;
    }
    text
}

/// The edits of a longest common subsequence (Hirschberg's table, kept whole: objects are small).
fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Edit, &'a str)> {
    if old.len() > MAX_LINES || new.len() > MAX_LINES {
        let removed = old.iter().map(|line| (Edit::Remove, *line));
        return removed.chain(new.iter().map(|line| (Edit::Add, *line))).collect();
    }
    let width = new.len() + 1;
    let mut common = vec![0_u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut edits = Vec::with_capacity(old.len() + new.len());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            edits.push((Edit::Keep, old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            edits.push((Edit::Remove, old[i]));
            i += 1;
        } else {
            edits.push((Edit::Add, new[j]));
            j += 1;
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_difference_names_what_appears_changes_and_goes() {
        let map = |name: &str, value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n"}, "data": {"k": value}});
        let difference =
            difference(&[map("a", "1"), map("b", "1"), map("c", "1")], &[map("a", "1"), map("b", "2"), map("d", "1")]);
        assert_eq!(difference.added, ["ConfigMap n/d"]);
        assert_eq!(difference.removed, ["ConfigMap n/c"]);
        let [(title, diff)] = &difference.changed[..] else { panic!("{difference:?}") };
        assert_eq!(title, "ConfigMap n/b");
        assert!(diff.contains("\n-  k: ") && diff.contains("\n+  k: "), "{diff}");
    }

    #[test]
    fn hunks_are_those_of_diff_u() {
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("\n3\n", "\nthree\n").replace("\n18\n", "\n18\n18b\n");
        assert_eq!(
            unified(&old, &new),
            "@@ -1,6 +1,6 @@\n 1\n 2\n-3\n+three\n 4\n 5\n 6\n@@ -16,5 +16,6 @@\n 16\n 17\n 18\n+18b\n 19\n 20\n"
        );
        assert_eq!(unified("a\n", "a\n"), "");
    }
}
