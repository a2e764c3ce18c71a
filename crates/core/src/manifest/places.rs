//! Where the fields of a document stand in its text, for messages about values that could be read and are wrong.

use super::{DuplicateKeyPolicy, Manifest, options};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;
use std::fmt;

/// The places of all fields of one document.
#[derive(Debug, Clone)]
pub struct Places {
    root: Node,
    first_line: usize,
}

#[derive(Debug, Clone)]
enum Node {
    Scalar,
    List(Vec<Placed>),
    Map(Vec<(String, Placed)>),
}

#[derive(Debug, Clone)]
struct Placed {
    /// From 1, in the document's own text.
    line: usize,
    column: usize,
    node: Node,
}

impl Manifest {
    /// Where its fields stand. What cannot be found stands at the document's first line: a document from within a
    /// `List` has no lines of its own.
    pub fn places(&self) -> Places {
        let root = serde_saphyr::from_str_with_options::<Node>(&self.text, options(DuplicateKeyPolicy::LastWins));
        Places { root: root.unwrap_or(Node::Scalar), first_line: self.line }
    }
}

impl Places {
    /// Line and column, from 1 and in the whole input, of a field such as `spec.containers[0].image` or
    /// `limits["nvidia.com/gpu"]`; of what is around
    /// it where the document has no such field; `None` where nothing of it is there.
    pub fn of(&self, field: &str) -> Option<(usize, usize)> {
        let (mut node, mut rest, mut found) = (&self.root, field, None);
        while let Some((placed, after)) = step(node, rest) {
            found = Some((self.first_line + placed.line.max(1) - 1, placed.column.max(1)));
            (node, rest) = (&placed.node, after);
        }
        found
    }
}

/// The next field of a path within a node, and what remains of the path. Keys may hold dots: the longest that fits.
fn step<'a, 'p>(node: &'a Node, path: &'p str) -> Option<(&'a Placed, &'p str)> {
    match node {
        Node::Scalar => None,
        Node::List(items) => {
            let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
            Some((items.get(index.parse::<usize>().ok()?)?, rest))
        }
        Node::Map(entries) => {
            let path = path.strip_prefix('.').unwrap_or(path);
            let fits = |key: &str| {
                let rest =
                    if path.starts_with('[') { path.strip_prefix(&format!("[{key:?}]"))? } else { path.strip_prefix(key)? };
                (rest.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
            };
            let fitting = entries.iter().filter_map(|(key, placed)| Some((key.len(), placed, fits(key)?)));
            fitting.max_by_key(|(length, _, _)| *length).map(|(_, placed, rest)| (placed, rest))
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

fn place<T>(spanned: &Spanned<T>) -> (usize, usize) {
    let number = |number: u64| usize::try_from(number).unwrap_or(1);
    (number(spanned.referenced.line()), number(spanned.referenced.column()))
}

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let (line, column) = place(&key);
            entries.push((key.value, Placed { line, column, node: map.next_value()? }));
        }
        Ok(Node::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Node>>()? {
            let (line, column) = place(&item);
            items.push(Placed { line, column, node: item.value });
        }
        Ok(Node::List(items))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_enum<A: serde::de::EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        data.variant::<IgnoredAny>().map(|_| Node::Scalar)
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::parse_documents;

    #[test]
    fn fields_are_found_where_they_stand() {
        let text = "apiVersion: v1\nkind: A\n---\napiVersion: v1\nkind: B\nmetadata:\n  labels: {a.b/c: 1, a: 2}\nspec:\n  \
                    items:\n  - name: x\n  - name: y\n    mode: 0644\n    none:\n";
        let places = parse_documents(text).expect("legal")[1].places();
        for (field, place) in [
            ("spec", Some((8, 1))),
            ("spec.items[1].mode", Some((12, 5))),
            ("spec.items[1].missing.deep", Some((11, 5))),
            ("spec.items[1].none", Some((13, 5))),
            ("spec.items[7]", Some((9, 3))),
            ("metadata.labels.a.b/c", Some((7, 12))),
            ("metadata.labels[\"a.b/c\"]", Some((7, 12))),
            ("metadata.labels.a", Some((7, 22))),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(places.of(field), place, "{field}");
        }
    }

    #[test]
    fn documents_of_a_list_stand_where_the_list_does() {
        let text = "\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: B, spec: {a: 1}}\n";
        let places = parse_documents(text).expect("legal")[0].places();
        assert_eq!(places.of("spec.a").map(|(line, _)| line), Some(1));
    }
}
