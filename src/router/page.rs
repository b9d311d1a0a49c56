//! The pages that people and programs see when a request is not replayed. It must never show anything that came with the
//! request, nor load anything.

use http::{HeaderMap, StatusCode, header};

/// A page.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// The status it comes with.
    pub status: StatusCode,
    /// The decision's name.
    pub code: &'static str,
    /// What there is to say.
    pub sentence: &'static str,
}

/// What a page is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For browsers.
    Html,
    /// For programs.
    Json,
}

impl Form {
    /// HTML for whoever names it before JSON, and JSON for all others.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let accept = accept.unwrap_or_default().to_ascii_lowercase();
        match (accept.find("text/html"), accept.find("json")) {
            (Some(html), Some(json)) if html < json => Self::Html,
            (Some(_), None) => Self::Html,
            (Some(_) | None, _) => Self::Json,
        }
    }
}

impl Page {
    /// Content type and text.
    #[must_use]
    pub fn render(&self, form: Form) -> (&'static str, String) {
        match form {
            Form::Html => ("text/html; charset=utf-8", self.html()),
            Form::Json => {
                let json = serde_json::json!({
                    "status": self.status.as_u16(),
                    "code": self.code,
                    "message": self.sentence,
                });
                ("application/json", format!("{json}\n"))
            }
        }
    }

    fn html(&self) -> String {
        let number = self.status.as_u16();
        let title = escaped(self.status.canonical_reason().unwrap_or("Error"));
        let sentence = escaped(self.sentence);
        format!(
            "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n\
             <meta name=viewport content=\"width=device-width\">\n<meta name=color-scheme content=\"light dark\">\n\
             <title>{number} {title}</title>\n\
             <style>body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:20vh auto;padding:0 1rem}}\
             small{{opacity:.6}}</style>\n\
             <h1>{title}</h1>\n<p>{sentence}</p>\n<small>{number} {code}</small>\n",
            code = escaped(self.code),
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn form(accept: &'static str) -> Form {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        Form::of(&headers)
    }

    #[test]
    fn browsers_get_html_and_programs_json() {
        assert_eq!(form("text/html,application/xhtml+xml,*/*;q=0.8"), Form::Html);
        assert_eq!(form("text/html, application/json"), Form::Html);
        assert_eq!(form("application/json, text/html"), Form::Json);
        assert_eq!(form("application/problem+json"), Form::Json);
        assert_eq!(form("*/*"), Form::Json);
        assert_eq!(Form::of(&HeaderMap::new()), Form::Json);
    }

    #[test]
    fn a_page_escapes_what_it_says() {
        let page = Page { status: StatusCode::GONE, code: "gone", sentence: "<b> & \"c\"" };
        let (content_type, text) = page.render(Form::Html);
        assert!(content_type.starts_with("text/html"));
        assert!(text.contains("&lt;b&gt; &amp; &quot;c&quot;") && !text.contains("<b>"), "{text}");
    }
}
