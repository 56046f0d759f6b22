"""Every chart of every page. The only part that talks to Bokeh: it is imported where a page is written, not before."""
