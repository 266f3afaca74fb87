package dbflag

import "testing"

func TestPasswordsAreCovered(t *testing.T) {
	for uri, want := range map[string]string{
		"postgresql://vda_user:s3cret@h:1/d":                "postgresql://vda_user:xxxxxx@h:1/d",
		"postgresql://u:a@b:c/d@h/d?x=1":                    "postgresql://u:xxxxxxx@h/d?x=1",
		"mysql://u@h/d?password=s3cret&x=1&password=t":      "mysql://u@h/d?password=xxxxxx&x=1&password=x",
		"sqlite:////var/lib/vda/vda.db":                     "sqlite:////var/lib/vda/vda.db",
		"postgresql://h:5432/d":                             "postgresql://h:5432/d",
		"host=h user=u password=s3cret dbname=d":            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
		"":                                                  "",
		"postgresql://:p@h/d?sslpassword=q":                 "postgresql://:x@h/d?sslpassword=x",
		"postgresql://u:p@h/d?password=1&sslpassword=k&a=b": "postgresql://u:x@h/d?password=x&sslpassword=x&a=b",
	} {
		if got := maskPassword(uri); got != want {
			t.Errorf("%s is shown as %s, want %s", uri, got, want)
		}
	}
}
