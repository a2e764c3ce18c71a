//! The three files of a model that a new version changes, rewritten so that everything else stays byte for byte.
//!
//! No YAML writer is used: it would lose comments, order and quoting. The value is found by its line and replaced there.

/// Why a file cannot be rewritten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// Not UTF-8.
    #[error("is not UTF-8")]
    NotText,
    /// A key that must be there is not, or stands more than once.
    #[error("{0} must stand in it exactly once, in block style")]
    Key(&'static str),
    /// No image of the name, or several.
    #[error("images[] must name {0} exactly once, in block style")]
    Image(String),
    /// The new value cannot be written on one line.
    #[error("the value {0:?} cannot be written on one line")]
    Value(String),
}

/// `version.yaml`: `version` and `digest` at the top level.
pub fn rewrite_version(file: &[u8], version: &str, digest: &str) -> Result<Vec<u8>, RewriteError> {
    let text = text(file)?;
    let text = replace_key(text, "version", version)?;
    replace_key(&text, "digest", digest).map(String::into_bytes)
}

/// `artifact-uri.txt`: the one line is the URI; the line's ending stays as it is.
pub fn rewrite_artifact_uri(file: &[u8], uri: &str) -> Result<Vec<u8>, RewriteError> {
    let text = text(file)?;
    check(uri)?;
    let ending = &text[text.trim_end().len()..];
    let leading = &text[..text.len() - text.trim_start().len()];
    let leading = if text.trim().is_empty() { "" } else { leading };
    Ok(format!("{leading}{uri}{ending}").into_bytes())
}

/// `kustomization.yaml`: `images[].newTag` of an image; `image` is a tag alone, or a name with a tag.
///
/// A tag alone (or a name that git does not list under any other) changes the only entry there is.
pub fn rewrite_image_tag(file: &[u8], image: &str) -> Result<Vec<u8>, RewriteError> {
    let text = text(file)?;
    let (name, tag) = split_image(image);
    let tag = check(tag)?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let entries = images(&lines);
    let wanted = |entry: &&ImageEntry| name.is_none_or(|name| entry.name == name || entry.new_name.as_deref() == Some(name));
    let mut found = entries.iter().filter(wanted);
    let refuse = || RewriteError::Image(name.unwrap_or("an image").to_owned());
    let (Some(entry), None) = (found.next(), found.next()) else { return Err(refuse()) };
    let line = entry.tag_line.ok_or_else(refuse)?;
    let mut rewritten = String::with_capacity(text.len() + 16);
    for (index, original) in lines.iter().enumerate() {
        if index == line {
            rewritten.push_str(&replace_value(original, &tag).ok_or_else(refuse)?);
        } else {
            rewritten.push_str(original);
        }
    }
    Ok(rewritten.into_bytes())
}

/// The name and the tag of an image reference; no name where it is a tag alone.
pub(super) fn split_image(image: &str) -> (Option<&str>, &str) {
    let slash = image.rfind('/').map_or(0, |index| index + 1);
    match image[slash..].find(':') {
        Some(colon) => (Some(&image[..slash + colon]), &image[slash + colon + 1..]),
        None => (None, image),
    }
}

struct ImageEntry {
    name: String,
    new_name: Option<String>,
    tag_line: Option<usize>,
}

/// The entries of the top-level `images` list, in block style.
fn images(lines: &[&str]) -> Vec<ImageEntry> {
    let mut entries: Vec<ImageEntry> = Vec::new();
    let mut inside = false;
    for (index, line) in lines.iter().enumerate() {
        let content = line.trim_end();
        let body = content.trim_start();
        if body.is_empty() || body.starts_with('#') {
            continue;
        }
        let at_margin = content.len() == body.len();
        if at_margin && !body.starts_with('-') {
            inside = key_of(body) == Some("images") && value_of(body).is_none();
            continue;
        }
        if !inside {
            continue;
        }
        let field = match body.strip_prefix('-') {
            Some(first) => {
                entries.push(ImageEntry { name: String::new(), new_name: None, tag_line: None });
                first.trim_start()
            }
            None => body,
        };
        let Some(entry) = entries.last_mut() else { continue };
        match (key_of(field), value_of(field)) {
            (Some("name"), Some(value)) => entry.name = value,
            (Some("newName"), Some(value)) => entry.new_name = Some(value),
            (Some("newTag"), _) => entry.tag_line = Some(index),
            (_, _) => {}
        }
    }
    entries
}

fn key_of(line: &str) -> Option<&str> {
    let (key, rest) = line.split_once(':')?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| key.trim().trim_matches(['"', '\'']))
}

fn value_of(line: &str) -> Option<String> {
    let (start, end) = value_span(line)?;
    let value = &line[start..end];
    let unquoted = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .or_else(|| value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')));
    Some(unquoted.unwrap_or(value).to_owned())
}

/// Where the scalar of a `key: value # comment` line stands, quotes included.
fn value_span(line: &str) -> Option<(usize, usize)> {
    let colon =
        line.char_indices().find(|(index, c)| *c == ':' && line[index + 1..].chars().next().is_none_or(char::is_whitespace))?;
    let after = colon.0 + 1;
    let start = after + (line[after..].len() - line[after..].trim_start().len());
    let rest = line[start..].trim_end();
    if rest.is_empty() || rest.starts_with('#') {
        return None;
    }
    let end = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => rest[1..].find(quote).map(|close| close + 2)?,
        _ => rest.find(" #").map_or(rest.len(), |comment| rest[..comment].trim_end().len()),
    };
    Some((start, start + end))
}

fn replace_value(line: &str, value: &str) -> Option<String> {
    match value_span(line) {
        Some((start, end)) => {
            let quote = line[start..].chars().next().filter(|c| matches!(c, '"' | '\''));
            let bare = value.trim_matches('"');
            let written = match quote {
                Some(quote) => format!("{quote}{bare}{quote}"),
                None => value.to_owned(),
            };
            Some(format!("{}{written}{}", &line[..start], &line[end..]))
        }
        // A key without a value yet.
        None => {
            let body = line.trim_end();
            body.ends_with(':').then(|| format!("{body} {value}{}", &line[body.len()..]))
        }
    }
}

fn replace_key(text: &str, key: &'static str, value: &str) -> Result<String, RewriteError> {
    let value = check(value)?;
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at: Vec<usize> = (0..lines.len())
        .filter(|index| !lines[*index].starts_with(char::is_whitespace) && key_of(lines[*index].trim_end()) == Some(key))
        .collect();
    let [line] = at[..] else { return Err(RewriteError::Key(key)) };
    let mut rewritten = String::with_capacity(text.len() + 16);
    for (index, original) in lines.iter().enumerate() {
        if index == line {
            rewritten.push_str(&replace_value(original, &value).ok_or(RewriteError::Key(key))?);
        } else {
            rewritten.push_str(original);
        }
    }
    Ok(rewritten)
}

/// The value as a YAML scalar on one line; quoted where YAML would read it as something else than a string.
fn check(value: &str) -> Result<String, RewriteError> {
    if value.is_empty() || value.len() > 2_048 || value.contains(['"', '\'', '\\']) || value.chars().any(char::is_control) {
        return Err(RewriteError::Value(value.to_owned()));
    }
    let reads_as_text = value.starts_with(|c: char| c.is_ascii_alphabetic())
        && !matches!(value.to_ascii_lowercase().as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n")
        && !value.contains(": ")
        && !value.contains(" #")
        && !value.ends_with(':');
    Ok(if reads_as_text { value.to_owned() } else { format!("\"{value}\"") })
}

fn text(file: &[u8]) -> Result<&str, RewriteError> {
    std::str::from_utf8(file).map_err(|_| RewriteError::NotText)
}
