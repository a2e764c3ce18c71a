//! A text as documents: read leniently and strictly, which say the same of what both read, and the places of its fields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster_core::manifest::{Manifest, parse_documents, parse_documents_strictly};

fuzz_target!(|text: &str| {
    let (lenient, strict) = (parse_documents(text), parse_documents_strictly(text));
    let Ok(strict) = strict else { return };
    assert_eq!(lenient.as_ref(), Ok(&strict), "what is read strictly is read leniently too");
    for manifest in strict {
        let _ = manifest.places().of("spec.a[0].b");
        let written = Manifest::from_value(manifest.value).expect("it was a manifest").text;
        let _ = parse_documents(&written);
    }
});
