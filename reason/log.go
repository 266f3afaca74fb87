package reason

import "log/slog"

// Attr is a slog.HandlerOptions.ReplaceAttr that logs errors in the words of
// Full.
func Attr(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok && a.Value.Kind() == slog.KindAny {
		a.Value = slog.StringValue(Full(err))
	}
	return a
}
