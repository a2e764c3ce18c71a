//! The reference of a container image in its parts: `registry/path:tag@digest`.

/// A reference. Without a registry it is Docker's, without tag and digest it is `latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// The host, with its port.
    pub registry: String,
    /// What stands between registry and tag, as written.
    pub path: String,
    /// Empty where there is a digest and no tag.
    pub tag: String,
    /// With its algorithm; empty where there is none.
    pub digest: String,
}

impl ImageReference {
    const DOCKER: &str = "docker.io";

    /// Reads a reference; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = text.split_once('@').unwrap_or((text, ""));
        let is_digest = digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        if text.contains('@') && !is_digest {
            return None;
        }
        let name_start = rest.rfind('/').map_or(0, |at| at + 1);
        let (rest, tag) = match rest[name_start..].split_once(':') {
            Some((name, tag)) => (&rest[..name_start + name.len()], tag),
            None => (rest, if digest.is_empty() { "latest" } else { "" }),
        };
        let is_host = |host: &str| host.contains(['.', ':']) || host == "localhost" || host.chars().any(char::is_uppercase);
        let (registry, path) = match rest.split_once('/') {
            Some((host, path)) if is_host(host) => (host, path),
            _ => (Self::DOCKER, rest),
        };
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
        };
        let is_tag = tag.len() <= 128
            && !tag.starts_with(['.', '-'])
            && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            && (!tag.is_empty() || !digest.is_empty());
        (path.split('/').all(is_part) && is_tag).then(|| Self {
            registry: registry.to_owned(),
            path: path.to_owned(),
            tag: tag.to_owned(),
            digest: digest.to_owned(),
        })
    }

    /// The whole reference with its registry, by digest where there is one.
    pub fn with_registry(&self) -> String {
        let Self { registry, path, tag, digest } = self;
        if digest.is_empty() { format!("{registry}/{path}:{tag}") } else { format!("{registry}/{path}@{digest}") }
    }

    /// Whether it comes from where references without a registry come from.
    pub fn is_docker(&self) -> bool {
        self.registry == Self::DOCKER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_apart() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with_digest = format!("ghcr.io/a/b@{digest}");
        for (text, registry, path, tag, found) in [
            ("nginx", "docker.io", "nginx", "latest", ""),
            ("nginx:1.27", "docker.io", "nginx", "1.27", ""),
            ("kyverno/test:1", "docker.io", "kyverno/test", "1", ""),
            ("localhost:5000/a/b:x", "localhost:5000", "a/b", "x", ""),
            ("registry.example.com/a", "registry.example.com", "a", "latest", ""),
            (with_digest.as_str(), "ghcr.io", "a/b", "", digest.as_str()),
        ] {
            let image = ImageReference::parse(text).expect("a reference");
            assert_eq!(
                (image.registry.as_str(), image.path.as_str(), image.tag.as_str(), image.digest.as_str()),
                (registry, path, tag, found)
            );
        }
        for wrong in ["", "a b", "nginx@latest", "a//b", "nginx:", "A/B/", "nginx:a/b:c d"] {
            assert_eq!(ImageReference::parse(wrong), None, "{wrong:?}");
        }
    }
}
