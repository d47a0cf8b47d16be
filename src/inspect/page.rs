//! The page: one file with everything in it.

use super::Inspection;
use std::fmt::Write;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/style.css");
const SCRIPT: [&str; 6] = [
    include_str!("page/core.js"),
    include_str!("page/text.js"),
    include_str!("page/panel.js"),
    include_str!("page/charts.js"),
    include_str!("page/lens.js"),
    include_str!("page/page.js"),
];

/// An HTML page that shows an inspection. It loads nothing from anywhere.
///
/// # Errors
///
/// None: every inspection can be written as JSON.
pub fn page(inspection: &Inspection) -> Result<String, serde_json::Error> {
    let data = escaped(&serde_json::to_string(inspection)?);
    let page = PAGE.replacen("/*style*/", STYLE, 1).replacen("/*script*/", &SCRIPT.concat(), 1);
    // The data come last, so that nothing is looked for in them.
    Ok(page.replacen("/*data*/", &data, 1))
}

/// JSON that can stand in HTML: no character that could end the element it stands in.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // A String takes everything.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::{Facts, Summary};

    #[test]
    fn what_is_shown_cannot_leave_its_element() {
        let note = "</script><b>&\u{2028}".to_owned();
        let inspection = Inspection {
            facts: Facts::default(),
            tokens: 0,
            prompt_tokens: 0,
            layers: 0,
            positions: Vec::new(),
            summary: Summary::default(),
            generation: None,
            reliability: None,
            notes: vec![note],
        };
        let page = page(&inspection).expect("JSON");
        assert!(
            !page.contains("</script><b>") && page.contains(r"\u003c/script\u003e\u003cb\u003e\u0026\u2028")
        );
        assert_eq!(page.matches("</script>").count(), 2, "the data and the program");
        let at = page.find(r#"id="data">"#).expect("the data") + r#"id="data">"#.len();
        let json = page[at..].split("</script>").next().expect("it ends");
        assert_eq!(serde_json::from_str::<Inspection>(json).expect("the same"), inspection);
    }
}
