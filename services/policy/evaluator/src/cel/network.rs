//! Addresses, blocks and URLs, as Kubernetes' CEL libraries `ip`, `cidr` and `url` read them; and semantic versions.

use std::{fmt, net::IpAddr};

/// One of the types these libraries add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    Ip(IpAddr),
    Cidr(Cidr),
    // Apart, since every value on the way is as large as the largest.
    Url(Box<Url>),
    Version(Box<Version>),
}

impl Network {
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Version(_) => "kubernetes.Semver",
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Cidr(block) => write!(f, "{}/{}", block.address, block.prefix),
            Self::Url(url) => f.write_str(&url.text),
            Self::Version(version) => version.fmt(f),
        }
    }
}

/// Reads an address: no zone, no IPv4 address in IPv6 clothes, no leading zeros.
pub fn ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        IpAddr::V4(_) | IpAddr::V6(_) => Some(address),
    }
}

/// An address and how many leading bits of it count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

impl Cidr {
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address = ip(address)?;
        let is_plain = prefix == "0" || !prefix.starts_with(['0', '+']);
        let prefix: u8 = prefix.parse().ok().filter(|_| is_plain)?;
        (prefix <= Self::width(address)).then_some(Self { address, prefix })
    }

    fn width(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    /// The address as a number with the bits that do not count cleared.
    fn network_bits(self, address: IpAddr) -> u128 {
        let (bits, width) = match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let free = width - u32::from(self.prefix);
        if free >= 128 { 0 } else { bits >> free << free }
    }

    pub fn contains(self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && self.network_bits(self.address) == self.network_bits(address)
    }

    pub fn contains_block(self, other: Self) -> bool {
        other.prefix >= self.prefix && self.contains(other.address)
    }

    /// The block by its first address.
    pub fn masked(self) -> Self {
        let bits = self.network_bits(self.address);
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4((bits as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(bits.into()),
        };
        Self { address, ..self }
    }
}

/// An absolute URL or an absolute path, in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    pub scheme: String,
    /// Host with the port, as written.
    pub host: String,
    pub path: String,
    pub query: String,
}

impl Url {
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.chars().any(|c| c.is_ascii_control() || c == ' ') {
            return None;
        }
        let without_fragment = text.split('#').next().unwrap_or_default();
        let (before_query, query) = without_fragment.split_once('?').unwrap_or((without_fragment, ""));
        let (scheme, host, path) = if before_query.starts_with('/') {
            ("", "", before_query)
        } else {
            let (scheme, rest) = before_query.split_once(':')?;
            let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
            if !is_scheme {
                return None;
            }
            match rest.strip_prefix("//") {
                Some(rest) => {
                    let end = rest.find('/').unwrap_or(rest.len());
                    let authority = &rest[..end];
                    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                    (scheme, host, &rest[end..])
                }
                None => (scheme, "", rest),
            }
        };
        let parts = |text: &str| text.to_owned();
        Some(Self {
            text: parts(text),
            scheme: scheme.to_ascii_lowercase(),
            host: parts(host),
            path: parts(path),
            query: parts(query),
        })
    }

    fn split_port(&self) -> (&str, &str) {
        match self.host.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port),
            _ => (&self.host, ""),
        }
    }

    pub fn hostname(&self) -> &str {
        self.split_port().0.trim_start_matches('[').trim_end_matches(']')
    }

    pub fn port(&self) -> &str {
        self.split_port().1
    }
}

/// `1.2.3-beta.1`; what follows a `+` does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    pub parts: [u64; 3],
    before: Vec<Identifier>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Text(String),
}

impl Version {
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.split('+').next()?;
        let (numbers, before) = text.split_once('-').map_or((text, None), |(numbers, before)| (numbers, Some(before)));
        let number = |part: &str| {
            let is_plain = part == "0" || (!part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()));
            part.parse::<u64>().ok().filter(|_| is_plain)
        };
        let parts: Vec<u64> = numbers.split('.').map(number).collect::<Option<_>>()?;
        let identifier =
            |part: &str| (!part.is_empty()).then(|| number(part).map_or(Identifier::Text(part.to_owned()), Identifier::Number));
        let before = before.map_or(Some(Vec::new()), |before| before.split('.').map(identifier).collect())?;
        Some(Self { parts: parts.try_into().ok()?, before })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let release = |version: &Self| version.before.is_empty();
        self.parts.cmp(&other.parts).then(release(self).cmp(&release(other))).then_with(|| self.before.cmp(&other.before))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.parts;
        write!(f, "{major}.{minor}.{patch}")?;
        for (index, identifier) in self.before.iter().enumerate() {
            f.write_str(if index == 0 { "-" } else { "." })?;
            match identifier {
                Identifier::Number(number) => write!(f, "{number}")?,
                Identifier::Text(text) => f.write_str(text)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_contain_what_shares_their_leading_bits() {
        let block = Cidr::parse("10.1.2.3/16").expect("a block");
        assert!(block.contains(ip("10.1.255.1").expect("an address")));
        assert!(!block.contains(ip("10.2.0.1").expect("an address")));
        assert!(!block.contains(ip("::1").expect("an address")));
        assert!(block.contains_block(Cidr::parse("10.1.4.0/24").expect("a block")));
        assert!(!block.contains_block(Cidr::parse("10.0.0.0/8").expect("a block")));
        assert_eq!(Network::Cidr(block.masked()).to_string(), "10.1.0.0/16");
        assert!(Cidr::parse("::/0").expect("a block").contains(ip("2001:db8::1").expect("an address")));
        for wrong in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/08", "10.0.0.256/8", "::ffff:1.2.3.4/96"] {
            assert_eq!(Cidr::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn urls_come_apart() {
        let url = Url::parse("https://user@example.com:8443/a/b?x=1#top").expect("a URL");
        assert_eq!((url.scheme.as_str(), url.hostname(), url.port()), ("https", "example.com", "8443"));
        assert_eq!((url.path.as_str(), url.query.as_str()), ("/a/b", "x=1"));
        assert_eq!(Url::parse("http://[::1]:80/").expect("a URL").hostname(), "::1");
        assert_eq!(Url::parse("/path").expect("a path").host, "");
        assert_eq!(Url::parse("no-scheme"), None);
    }

    #[test]
    fn versions_order_as_semver_orders_them() {
        let order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta", "1.0.0", "1.2.0", "1.10.0"];
        let versions: Vec<Version> = order.iter().map(|text| Version::parse(text).expect("a version")).collect();
        assert!(versions.is_sorted());
        assert_eq!(Version::parse("1.2"), None);
        assert_eq!(Version::parse("01.2.3"), None);
    }
}
