def ensure(layout, say): 
    layout.upstreams.mkdir(parents=True, exist_ok=True)
    return "0"*40
