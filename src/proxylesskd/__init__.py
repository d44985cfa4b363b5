"""ProxylessKD: small face-recognition students inside a large teacher's embedding space."""
