//! Keeps what is no gRPC from services.
//!
//! gRPC's router answers unknown paths with 200 (`Status::into_http`): to Terraform's backend `http`
//! that is a state that was read, or stored. It takes 404 for "there is no state yet", so a path that is
//! mistyped gets neither.

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// With what there is at this port, in words.
pub(super) async fn only_grpc(
    State(here): State<&'static str>,
    request: Request,
    next: Next,
) -> Response {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if kind.is_some_and(|kind| kind.starts_with("application/grpc")) {
        return next.run(request).await;
    }
    let path: String = request.uri().path().chars().take(100).collect();
    let text = format!("error: there is nothing at {path}\nhelp: {here}\n");
    (StatusCode::BAD_REQUEST, text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use axum::middleware::from_fn_with_state;
    use tonic::codegen::Service as _;

    use super::*;

    #[tokio::test]
    async fn what_is_no_grpc_gets_no_answer_that_means_success_or_no_state() {
        // As gRPC's own router does it.
        let services = Router::new().fallback(|| async { StatusCode::OK });
        let mut router = services.layer(from_fn_with_state("look elsewhere", only_grpc));
        let mut ask = async |method: &str, path: &str, kind: Option<&str>| {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(kind) = kind {
                request = request.header(CONTENT_TYPE, kind);
            }
            router.call(request.body(Body::empty()).unwrap()).await.unwrap().status().as_u16()
        };
        assert_eq!(ask("POST", "/states/web", Some("application/json")).await, 400);
        assert_eq!(ask("GET", "/state/web/", None).await, 400);
        assert_eq!(ask("LOCK", "/state/web", None).await, 400);
        assert_eq!(ask("POST", "/weft.v1.Hosts/List", Some("application/grpc")).await, 200);
    }
}
